// Makes a container in Azurite: `node container.js ENDPOINT NAME`, where ENDPOINT ends with the account's name.
// Azurite's account and key are published and the same everywhere (Azurite's documentation, "Default storage account").
const { createHmac } = require("node:crypto");

const [endpoint, name] = process.argv.slice(2);
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

// Shared Key (Azure Blob Storage REST API, "Authorize with Shared Key").
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
const named = Object.keys(headers).map((header) => `${header}:${headers[header]}`).join("\n");
const resource = `/${account}${new URL(endpoint).pathname}/${name}\nrestype:container`;
const signed = `PUT${"\n".repeat(12)}${named}\n${resource}`;
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed, "utf8").digest("base64");
headers.authorization = `SharedKey ${account}:${signature}`;

fetch(`${endpoint}/${name}?restype=container`, { method: "PUT", headers }).then(async (answer) => {
  if (answer.status !== 201) {
    console.error(`the container ${name} was not made: ${answer.status} ${await answer.text()}`);
    process.exit(1);
  }
});

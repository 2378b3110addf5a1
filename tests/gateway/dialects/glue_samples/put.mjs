// As in Glue's document, but for these lines: the ticket, and the file that is to be sent.
import { readFileSync } from "node:fs";

const { uploadTicket, path, contentType, filename } = JSON.parse(readFileSync(0, "utf8"));
const fileBuffer = new Blob([readFileSync(path)], { type: contentType });

// Upload using PUT
await fetch(uploadTicket.url, {
  method: "PUT",
  headers: uploadTicket.headers.reduce((acc, header) => {
    acc[header.name] = header.value;
    return acc;
  }, {}),
  body: fileBuffer,
});

// As in Glue's document, but for these lines: the ticket, and the file that is to be sent.
import { readFileSync } from "node:fs";

const { uploadTicket, path, contentType, filename } = JSON.parse(readFileSync(0, "utf8"));
const fileBuffer = new Blob([readFileSync(path)], { type: contentType });

// Upload using POST with form data
const formData = new FormData();
uploadTicket.formData.forEach(({ name, value }) => {
  if (value === "@file") {
    formData.append(name, fileBuffer, {
      contentType: contentType,
      filename: filename,
    });
  } else {
    formData.append(name, value);
  }
});

await fetch(uploadTicket.url, {
  method: "POST",
  headers: uploadTicket.headers.reduce((acc, header) => {
    acc[header.name] = header.value;
    return acc;
  }, {}),
  body: formData,
});

// What clients of Linear do, done by their own library: each step prints one line of JSON, which the test compares.
import { LinearClient } from "@linear/sdk";

const [base, apiKey, issueId] = process.argv.slice(2);
const client = new LinearClient({ apiKey, apiUrl: `${base}/graphql` });
const tell = (step, found) => console.log(JSON.stringify({ step, ...found }));
const shown = ({ id, title, subtitle, url, metadata, groupBySource, archivedAt, creatorId, issueId }) => ({
  id, title, subtitle, url, metadata, groupBySource, archivedAt, creatorId, issueId,
});
const failing = async (step, call) => {
  try {
    await call();
    tell(step, { error: "none" });
  } catch (error) {
    tell(step, { error: error.constructor.name, type: error.type, message: error.errors?.[0]?.message });
  }
};

const url = "http://exception.com/123";
const metadata = { exceptionId: "exc-123", count: 7, ratio: 0.5 };
const created = await client.createAttachment({ issueId, title: "Exception", subtitle: "Open", url, metadata });
tell("create", { success: created.success, lastSyncId: created.lastSyncId, attachmentId: created.attachmentId });
tell("read", shown(await created.attachment));

const again = await client.createAttachment({ issueId, title: "Exception", subtitle: null, url: "HTTP://exception.com:80/123" });
tell("upsert", shown(await again.attachment));

const updated = await client.updateAttachment(url, { title: "Exception", subtitle: "Resolved", metadata: { exceptionId: 1 } });
tell("update by URL", shown(await updated.attachment));

const byUrl = await client.attachment(url);
const issue = await byUrl.issue;
tell("read by URL with its issue", { id: byUrl.id, issue: issue.identifier, title: issue.title, number: issue.number });
tell("the issue of an attachment", { identifier: (await client.attachmentIssue(byUrl.id)).identifier });

for (const number of [1, 2, 3]) {
  await client.attachmentLinkURL(issueId, `https://example.com/${number}`, number === 1 ? {} : { title: `Link ${number}` });
}
const titles = (connection) => connection.nodes.map((node) => node.title);
tell("list", { titles: titles(await issue.attachments()) });
const parts = [];
let page = await issue.attachments({ first: 2 });
parts.push(titles(page), page.pageInfo.hasNextPage);
page = await page.fetchNext();
parts.push(titles(page), page.pageInfo.hasNextPage);
tell("pages", { parts });
const last = await issue.attachments({ last: 1 });
tell("from the end", { titles: titles(last), before: titles(await issue.attachments({ last: 1, before: last.pageInfo.startCursor })) });
const every = await client.paginate((asked) => issue.attachments(asked), {});
tell("paginate", { titles: every.map((one) => one.title) });
tell("filter", {
  titles: titles(
    await issue.attachments({
      filter: { or: [{ title: { startsWith: "Link" } }, { url: { eq: url } }], createdAt: { gt: "-PT1H" }, id: { neq: byUrl.id } },
      orderBy: "updatedAt",
    }),
  ),
});
tell("filter of all", { titles: titles(await client.attachments({ filter: { subtitle: { eq: "Resolved" }, creator: { isMe: { eq: true } } } })) });
tell("of a URL", { ids: (await client.attachmentsForURL(url)).nodes.map((one) => one.id) });
tell("sub-issues", { keys: (await issue.children()).nodes.map((one) => one.identifier) });
tell("viewer", { name: (await client.viewer).displayName });

const bytes = new TextEncoder().encode("the bytes of an upload");
const ticket = await client.fileUpload("text/plain", "notes.txt", bytes.length, { metaData: { from: "sdk" } });
const { uploadUrl, assetUrl, headers: given, ...file } = ticket.uploadFile;
const headers = new Headers({ "Content-Type": "text/plain", "Cache-Control": "public, max-age=31536000" });
given.forEach(({ key, value }) => headers.set(key, value));
const early = await fetch(assetUrl, { headers: { Authorization: apiKey } });
const put = await fetch(uploadUrl, { method: "PUT", headers, body: bytes });
const read = await fetch(assetUrl, { headers: { Authorization: apiKey } });
const nobody = await fetch(assetUrl);
tell("upload", {
  size: file.size, contentType: file.contentType, filename: file.filename, metaData: file.metaData,
  early: early.status, put: put.ok, text: await read.text(), type: read.headers.get("content-type"), nobody: nobody.status,
});
const attached = await (await client.createAttachment({ issueId, title: "Notes", url: assetUrl })).attachment;
tell("attach an upload", { url: attached.url === assetUrl, title: attached.title });
const signing = new LinearClient({ apiKey, apiUrl: `${base}/graphql`, headers: { "public-file-urls-expire-in": "60" } });
const signed = (await signing.attachment(attached.id)).url;
tell("a signed URL", { differs: signed !== assetUrl, text: await (await fetch(signed)).text() });

await failing("nothing there", () => client.attachment("http://exception.com/none"));
await failing("bad metadata", () => client.createAttachment({ issueId, title: "t", url, metadata: { bad: [1] } }));
await failing("bad input", () => client.createAttachment({ issueId, url }));
await failing("not offered", () => client.imageUploadFromUrl("http://exception.com/a.png"));
await failing("no key", () => new LinearClient({ apiKey: "rk_none", apiUrl: `${base}/graphql` }).viewer);

const gone = await client.deleteAttachment(byUrl.id);
tell("delete", { success: gone.success, entityId: gone.entityId });
await failing("deleted", () => client.attachment(byUrl.id));

// A hybrid file server in Node.js, to the contract of lab 05. Node's own modules alone.
//
//     node node_hybrid.mjs --root DIR --port 8000
//
// http reads the requests, and pipeline waits for a slow client before it reads on. What is left to
// write is what the lab asks for: which file a path names, the headers, and what to do when a file
// changes while it is sent.

import { constants, open } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";

const THRESHOLD = 1024 * 1024; // a file of at most this many bytes is small
const TYPES = {
  ".html": "text/html",
  ".css": "text/css",
  ".js": "text/javascript",
  ".json": "application/json",
  ".txt": "text/plain",
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".pdf": "application/pdf",
  ".mp3": "audio/mpeg",
  ".mp4": "video/mp4",
  ".zip": "application/zip",
};
const MISSING = ["ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ENXIO", "EINVAL"];

const { root, port } = parseArgs({
  options: { root: { type: "string", default: "." }, port: { type: "string", default: "0" } },
}).values;

const server = createServer({ keepAliveTimeout: 5000 }, async (request, response) => {
  response.setHeader("Server", "hybrid-node");
  if (request.method !== "GET" && request.method !== "HEAD") {
    return refuse(request, response, 405, "method not allowed");
  }
  const name = nameOf(request.url);
  let file;
  try {
    file = await openFile(name);
  } catch (error) {
    const missing = MISSING.includes(error.code);
    const words = missing ? "there is no such file" : "the file can't be opened";
    return refuse(request, response, missing ? 404 : 500, words);
  }
  try {
    await answer(request, response, file, name);
  } catch {
    response.destroy(); // only a closed connection tells that something is missing
  } finally {
    await file.handle.close();
  }
});

server.listen(Number(port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

// The name that a target means, without its query; undefined if no file can have it.
function nameOf(target) {
  try {
    const name = decodeURIComponent(target.split("?", 1)[0]);
    return name.includes("\0") || name.split("/").includes("..") ? undefined : name;
  } catch {
    return undefined; // not in UTF-8, or a % without its digits
  }
}

// The open file and its size. The size is that of the open file, not of its name, which may be
// another file's by then. To open a named pipe without O_NONBLOCK would wait for its other end.
async function openFile(name) {
  if (name === undefined) throw Object.assign(new Error("no such name"), { code: "ENOENT" });
  const handle = await open(join(root, name), constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const about = await handle.stat();
    if (!about.isFile()) throw Object.assign(new Error("no file"), { code: "ENOENT" });
    return { handle, size: about.size };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function answer(request, response, { handle, size }, name) {
  response.writeHead(200, {
    "Content-Type": TYPES[extname(name).toLowerCase()] ?? "application/octet-stream",
    "Content-Length": size,
    "Cache-Control": "public, max-age=3600",
  });
  if (request.method === "HEAD" || size === 0) return response.end();
  if (size <= THRESHOLD) return sendWhole(response, handle, size);
  const pieces = handle.createReadStream({ start: 0, end: size - 1, autoClose: false });
  await pipeline(pieces, response, { end: false });
  if (pieces.bytesRead < size) throw new Error("the file has shrunk");
  response.end();
}

async function sendWhole(response, handle, size) {
  const body = Buffer.alloc(size);
  let filled = 0;
  while (filled < size) {
    const { bytesRead } = await handle.read(body, filled, size - filled, filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  if (filled === size) return response.end(body);
  response.write(body.subarray(0, filled), () => response.destroy()); // the file has shrunk
}

function refuse(request, response, status, words) {
  const body = `${words}\n`;
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'

// A restic repository in a folder, over HTTP as restic's REST backend asks for it, until the standard input ends. Argument:
// FOLDER. Says its port when it answers.
// Source: restic's documentation, "REST Backend"; what it finds wrong fails its copy.

const [folder = ''] = process.argv.slice(2)
const TYPES = ['data', 'keys', 'locks', 'snapshots', 'index']
const LIST_TYPE = 'application/vnd.x.restic.rest.v2'

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [type = '', name = ''] = new URL(request.url ?? '', 'http://localhost').pathname.slice(1).split('/')
  if (type !== 'config' && !TYPES.includes(type)) return void response.writeHead(404).end()
  if (type !== 'config' && name === '') return list(join(folder, type), response)
  if (name !== '' && !/^[0-9a-f]{64}$/.test(name)) return void response.writeHead(400).end()
  const path = type === 'config' ? join(folder, type) : pathOf(type, name)
  switch (request.method) {
    case 'POST':
      await mkdir(dirname(path), { recursive: true })
      await pipeline(request, createWriteStream(path))
      return void response.writeHead(200).end()
    case 'DELETE':
      await rm(path)
      return void response.writeHead(200).end()
    default:
      return read(path, request, response)
  }
}

const pathOf = (type: string, name: string) =>
  type === 'data' ? join(folder, type, name.slice(0, 2), name) : join(folder, type, name)

async function list(path: string, response: ServerResponse): Promise<void> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const told = files.map(async ({ name, parentPath }) => ({
    name,
    size: (await stat(join(parentPath, name))).size,
  }))
  response.writeHead(200, { 'Content-Type': LIST_TYPE }).end(JSON.stringify(await Promise.all(told)))
}

async function read(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { size } = await stat(path)
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const start = Number(from ?? 0)
  const end = Math.min(size - 1, to ? Number(to) : size - 1)
  response.writeHead(from === undefined ? 200 : 206, {
    'Content-Length': end - start + 1,
    ...(from === undefined ? {} : { 'Content-Range': `bytes ${start}-${end}/${size}` }),
  })
  if (request.method === 'HEAD') return void response.end()
  await pipeline(createReadStream(path, { start, end, highWaterMark: 1024 * 1024 }), response)
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: NodeJS.ErrnoException) => {
    if (response.headersSent) response.destroy()
    else response.writeHead(error.code === 'ENOENT' ? 404 : 500).end()
  })
}).listen(0, '127.0.0.1')
await once(server, 'listening')
const address = server.address()
if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
console.log(address.port)
await new Promise((resolve) => process.stdin.on('end', resolve).resume())
server.closeAllConnections()
server.close()

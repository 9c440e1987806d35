import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Disk, NbdAddress } from './contract.ts'
import { Link } from './nbd-link.ts'
import {
  decodeOption,
  type ExportSize,
  encodeContext,
  encodeGreeting,
  encodeInfo,
  encodeOptionReply,
  OPTION,
  OPTION_BYTES,
  REPLY,
} from './nbd-options.ts'
import { decodeRequest, EXPORT_FLAG, REQUEST_BYTES, type Request } from './nbd-protocol.ts'
import { serveNbd } from './nbd-server.ts'

/** What the tests of this room share: folders, content, the real tools, and servers that misbehave. */

export async function makeFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nbd-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** `sizeBytes` with a run of pseudo-random bytes, the same for each seed, in about half of its 64 KiB pieces. */
export function sparseContent(sizeBytes: number, seed = 1): Buffer {
  const content = Buffer.alloc(sizeBytes)
  let state = seed
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state
  }
  for (let at = 0; at < sizeBytes; at += 65536) {
    if ((random() & 0x10000) === 0) continue
    for (let byte = at; byte < Math.min(at + 65536, sizeBytes); byte++) content[byte] = random() >>> 24
  }
  return content
}

/** Standard output of a tool. Rejects with what it said, or with the name of what is not installed. */
export function runTool(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, [...args], { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (!error) resolve(stdout)
      else if (error.code === 'ENOENT')
        reject(new Error(`${command} is not installed; the project's setup does.`))
      else reject(new Error(`${command} ${args.join(' ')}: ${stderr || error.message}`))
    })
  })
}

/** Starts a server that shall listen on `socketPath`, waits until it does, and ends it with the test. */
export async function startTool(
  t: TestContext,
  command: string,
  args: readonly string[],
  socketPath: string,
): Promise<ChildProcess> {
  const child = spawn(command, [...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (text) => {
    said += text
  })
  let failure: Error | undefined
  child.once('error', (error) => {
    failure = new Error(`${command} cannot be started: is it installed?`, { cause: error })
  })
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null || failure) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  while (!(await answers(socketPath))) {
    if (failure) throw failure
    if (child.exitCode !== null) throw new Error(`${command} ended before it listened: ${said}`)
    await delay(10)
  }
  return child
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

/** Serves one disk to whoever asks, whatever name it asks for; says where. */
export async function serveDisk(t: TestContext, disk: Disk): Promise<NbdAddress & { socketPath: string }> {
  const socketPath = join(await makeFolder(t), 's')
  const server = await serveNbd({ listen: { socketPath }, resolve: async () => disk })
  t.after(() => server.close())
  return { socketPath, exportName: '' }
}

/** An NBD server of a few lines that does what the test tells it, right or wrong. */
export async function serveScript(
  t: TestContext,
  script: (link: Link) => Promise<void>,
): Promise<NbdAddress> {
  const links = new Set<Link>()
  const server = createServer((socket) => {
    const link = Link.accept(socket)
    links.add(link)
    // The client may end first; what a script says then is of no interest.
    script(link).catch(() => {})
  })
  const socketPath = join(await makeFolder(t), 's')
  server.listen(socketPath)
  await once(server, 'listening')
  t.after(() => {
    for (const link of links) link.end(new Error('the test is over'))
    server.close()
  })
  return { socketPath, exportName: 'x' }
}

/** A right handshake, with block status as context 7 unless `contexts` says more; then `answer` gets each request. */
export function scriptedExport(
  size: Partial<ExportSize>,
  answer: (request: Request, link: Link) => Promise<void>,
  contexts: readonly { readonly id: number; readonly name: string }[] = [{ id: 7, name: 'base:allocation' }],
): (link: Link) => Promise<void> {
  return async (link) => {
    link.send([encodeGreeting(3)])
    await link.take(4)
    for (;;) {
      const { option, dataBytes } = decodeOption(await link.take(OPTION_BYTES))
      await link.take(dataBytes)
      if (option === OPTION.setMetaContext) {
        for (const { id, name } of contexts)
          link.send([encodeOptionReply(option, REPLY.metaContext, encodeContext(id, name))])
      }
      if (option === OPTION.go) {
        const info = { sizeBytes: 65536, flags: EXPORT_FLAG.hasFlags | EXPORT_FLAG.readOnly, ...size }
        link.send([encodeOptionReply(option, REPLY.info, encodeInfo({ is: 'export', ...info }))])
      }
      link.send([encodeOptionReply(option, REPLY.ack)])
      if (option === OPTION.go) break
    }
    for (;;) await answer(decodeRequest(await link.take(REQUEST_BYTES)), link)
  }
}

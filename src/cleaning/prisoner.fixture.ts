import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

/** In the place of an examiner, tries what none may do and tells what came of it. Tried with no disks, it ends at once. */

const denied: string[] = []
const allowed: string[] = []

async function attempt(name: string, deed: () => unknown): Promise<void> {
  try {
    await deed()
    allowed.push(name)
  } catch {
    denied.push(name)
  }
}

if (process.argv.length > 3) {
  const socketPath = join(tmpdir(), 'prisoner')
  await attempt('read', () => readFileSync('/etc/passwd'))
  await attempt('list', () => readdirSync('/'))
  await attempt('write', () => writeFileSync(`${socketPath}.txt`, ''))
  await attempt('connect', () => once(connect({ host: '127.0.0.1', port: 9 }), 'connect'))
  await attempt('listen', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    // The permission model throws this one where nobody can catch it.
    const thrown = new Promise((_resolve, reject) => process.once('uncaughtException', reject))
    await Promise.race([once(server, 'listening'), thrown])
    server.close()
  })
  await attempt('spawn', () => once(spawn('true'), 'exit'))
  await attempt('worker', () => new Worker('', { eval: true }))
  await attempt('eval', () => new Function('return 1')())
  let limits = 'unseen'
  try {
    limits = readFileSync('/proc/self/limits', 'utf8')
  } catch {
    // As it should be.
  }
  const environment = Object.keys(process.env)
  const told = { denied, allowed, environment, uid: process.getuid?.(), limits }
  await new Promise((resolve) => process.stdout.write(JSON.stringify(told), resolve))
}
process.exit(0)

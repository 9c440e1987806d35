import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { makeFolder } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import type { ListenAddress } from './nbd-listen.ts'
import { serveNbd } from './nbd-server.ts'

const serve = (listen: ListenAddress) =>
  serveNbd({ listen, resolve: async () => memoryDisk(Buffer.alloc(4096)) })

test('a socket that a killed server left is replaced, one that is answered on is not', async (t) => {
  const socketPath = join(await makeFolder(t), 's')
  const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  await assert.rejects(serve({ socketPath }), (error) => isFault(error, 'conflict'))
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.ok((await stat(socketPath)).isSocket(), 'the killed server left its socket')
  const server = await serve({ socketPath })
  t.after(() => server.close())
  assert.deepEqual(server.address, { socketPath })
  assert.equal((await stat(socketPath)).mode & 0o777, 0o600)
  const client = await openNbd({ socketPath, exportName: '' })
  await client.close()
})

test('a file that is no socket is never removed', async (t) => {
  const socketPath = join(await makeFolder(t), 's')
  await writeFile(socketPath, 'precious')
  await assert.rejects(serve({ socketPath }), (error) => isFault(error, 'conflict'))
  assert.equal(await readFile(socketPath, 'utf8'), 'precious')
})

test('a path too long, a folder that is missing, a port in use', async (t) => {
  const folder = await makeFolder(t)
  await assert.rejects(serve({ socketPath: join(folder, 'x'.repeat(108)) }), (error) =>
    isFault(error, 'invalid'),
  )
  await assert.rejects(serve({ socketPath: join(folder, 'none', 's') }), (error) =>
    isFault(error, 'unavailable'),
  )
  const server = await serve({ host: '127.0.0.1', port: 0 })
  t.after(() => server.close())
  assert.ok('port' in server.address && server.address.port > 0)
  const taken = server.address
  await assert.rejects(serve(taken), (error) => isFault(error, 'conflict'))
})

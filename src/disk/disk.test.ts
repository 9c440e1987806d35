import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { fileDisk } from './file-disk.ts'
import { makeFolder, serveDisk, startTool } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { serveNbd } from './nbd-server.ts'
import { diskSuite } from './suite.ts'

diskSuite('memory', async (_t, content) => memoryDisk(content))

diskSuite('file', async (t, content) => {
  const path = join(await makeFolder(t), 'disk')
  await writeFile(path, content)
  return fileDisk(path)
})

diskSuite('our server over a unix socket', async (t, content) =>
  openNbd(await serveDisk(t, memoryDisk(content))),
)

diskSuite('our server over TCP', async (t, content) => {
  const server = await serveNbd({
    listen: { host: '127.0.0.1', port: 0 },
    resolve: async () => memoryDisk(content),
  })
  t.after(() => server.close())
  return openNbd({ ...server.address, exportName: 'any' })
})

diskSuite('qemu-nbd', async (t, content) => {
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'disk'), content)
  const socketPath = join(folder, 's')
  await startTool(
    t,
    'qemu-nbd',
    ['-r', '-t', '-f', 'raw', '-k', socketPath, join(folder, 'disk')],
    socketPath,
  )
  return openNbd({ socketPath, exportName: '' })
})

// A server that takes only whole blocks, one that takes only short ones, and one without structured replies.
const filters = {
  blocks: ['--filter=blocksize-policy', 'blocksize-minimum=512', 'blocksize-error-policy=error'],
  short: ['--filter=blocksize-policy', 'blocksize-maximum=64k', 'blocksize-error-policy=error'],
  simple: ['--no-sr'],
}
for (const [name, [first = '', ...rest]] of Object.entries(filters)) {
  diskSuite(`nbdkit, ${name}`, async (t, content) => {
    const folder = await makeFolder(t)
    await writeFile(join(folder, 'disk'), content)
    const socketPath = join(folder, 's')
    const args = ['-f', '-r', '-U', socketPath, first, 'file', join(folder, 'disk'), ...rest]
    await startTool(t, 'nbdkit', args, socketPath)
    return openNbd({ socketPath, exportName: '' })
  })
}

test('a file that is missing or no file is a fault', async (t) => {
  const folder = await makeFolder(t)
  await assert.rejects(fileDisk(join(folder, 'none')), (error) => isFault(error, 'absent'))
  await assert.rejects(fileDisk(folder), (error) => isFault(error, 'invalid'))
})

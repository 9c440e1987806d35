import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startServer, stopServer } from '../../demo/server.ts'
import type { ShownImage } from '../../src/wire/native/show.ts'
import { FIRST_FILE } from './formats-files.ts'
import { importDisk, REGION, taskDone } from './live-machine.ts'

// One import by a server that runs already, has brought in a small file before and holds nothing else: from the request until its client sees the end of the
// task. As a process of its own, so that its memory counts alone. Arguments: IMPORTS FILE FOLDER. Says what came and in
// what time, as JSON.

const [imports = '', fileName = '', folder = ''] = process.argv.slice(2)
const server = await startServer({
  data: join(folder, 'data'),
  listen: '127.0.0.1:0',
  importDirectory: imports,
  environment: { CALOTYPE_HOST_DRIVER: 'simulated' },
})

/** The clock ticks of /proc, the same on every Linux of today. */
const TICKS_PER_SECOND = 100

/** Of the server and of those that it started and that have ended. Source: proc(5), fields 14 to 17 of stat. */
function processorSeconds(): number {
  const text = readFileSync(`/proc/${server.process?.pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND
}

try {
  await importDisk(server, FIRST_FILE, 'custom')
  const beforeSeconds = processorSeconds()
  const beginMs = performance.now()
  const made = await server.native.call<{ imageId: string; taskId: string }>('POST', '/v1/images/import', {
    body: { region: REGION, fileName, name: 'bench', osType: 'Linux' },
  })
  await taskDone(server, made.taskId)
  const jobSeconds = (performance.now() - beginMs) / 1000
  const cpuSeconds = Number((processorSeconds() - beforeSeconds).toFixed(2))
  const { dataBytes } = await server.native.call<ShownImage>('GET', `/v1/images/${made.imageId}`, {
    query: { region: REGION },
  })
  console.log(JSON.stringify({ jobSeconds, cpuSeconds, dataBytes }))
} finally {
  await stopServer(server)
}

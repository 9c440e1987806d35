import { fileDisk } from '../disk/file-disk.ts'
import { serveNbd } from '../disk/nbd-server.ts'
import { createFormatReader } from './reader.ts'

/** A service that opens a qcow2 file, says so, and then waits to be killed. */
const [runDirectory = '', path = '', size = ''] = process.argv.slice(2)
const reader = createFormatReader({ runDirectory, log: () => {} })
const { socketPath } = await reader.prepare('crash')
await serveNbd({ listen: { socketPath }, resolve: () => fileDisk(path) })
const disk = { exportName: '0', format: 'qcow2', sizeBytes: Number(size) } as const
await reader.open('crash', [disk], new AbortController().signal)
process.stdout.write('open\n')
setInterval(() => {}, 1000)

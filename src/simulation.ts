import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openNbd } from './disk/nbd-client.ts'
import { serveNbd } from './disk/nbd-server.ts'
import type { Host } from './host/contract.ts'
import { SimulatedHost, SimulatedState } from './host/simulated/host.ts'

/** The simulated host with real NBD on both sides: what it exports and what its disks are made of. */
export function createSimulation(runDirectory: string, state = new SimulatedState()): Host {
  let servedCount = 0
  return new SimulatedHost({
    state,
    async readBase(base, offset, lengthBytes) {
      const client = await openNbd(base)
      try {
        return await client.read(offset, lengthBytes)
      } finally {
        await client.close()
      }
    },
    async serve(disk) {
      const socketPath = join(runDirectory, `simulated-${process.pid}-${servedCount++}.sock`)
      const exportName = disk.disk.id
      const server = await serveNbd({
        listen: { socketPath },
        resolve: async () => ({
          sizeBytes: disk.sizeBytes,
          read: async (offset, lengthBytes) => Buffer.from(await disk.read(offset, lengthBytes)),
          extents: async (offset, lengthBytes) => [{ offset, lengthBytes, holds: 'data' }],
          close: async () => {},
        }),
      })
      return {
        socketPath,
        exportName,
        async close() {
          await server.close()
          await rm(socketPath, { force: true })
        },
      }
    },
  })
}

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type NbdClient, openNbd } from './disk/nbd-client.ts'
import { serveNbd } from './disk/nbd-server.ts'
import type { Host } from './host/contract.ts'
import { SimulatedHost, SimulatedState } from './host/simulated/host.ts'

/** The simulated host with real NBD on both sides: what it exports and what its disks are made of. */
export function createSimulation(runDirectory: string, state = new SimulatedState()): Host {
  let servedCount = 0
  const bases = new Map<string, Promise<NbdClient>>()
  /** One connection to each base; a new one after it broke. */
  const baseOf = (base: { readonly socketPath: string; readonly exportName: string }) => {
    const name = `${base.socketPath} ${base.exportName}`
    let client = bases.get(name)
    if (client === undefined) {
      client = openNbd(base)
      bases.set(name, client)
      client.catch(() => bases.delete(name))
    }
    return client
  }
  return new SimulatedHost({
    state,
    async readBase(base, offset, lengthBytes) {
      try {
        return await (await baseOf(base)).read(offset, lengthBytes)
      } catch {
        // The server of the base was started anew: its connections ended with it.
        bases.delete(`${base.socketPath} ${base.exportName}`)
        return await (await baseOf(base)).read(offset, lengthBytes)
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
          contexts: new Map(
            [...disk.contexts].map(([name, statusOf]) => [
              name,
              async (offset: number, lengthBytes: number) => statusOf(offset, lengthBytes),
            ]),
          ),
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

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { StartAppliance } from './cleaning/appliance-contract.ts'
import type { Cleaner } from './cleaning/contract.ts'
import type { Settings } from './settings.ts'

type Acceleration = 'kvm' | 'tcg'

/**
 * The cleaner of a server. Its parts are looked at when they are first needed, as most starts clean nothing; what takes away
 * needs no QEMU, so that a host without it is never kept by what it cannot do.
 */
export function createCleanerOf(
  settings: Settings,
  runDirectory: string,
  log: (record: Record<string, unknown>) => void,
): Cleaner {
  const folder = join(settings.data, 'cleaning')
  let acceleration: Promise<Acceleration> | undefined
  const chooseOnce = () => {
    acceleration ??= accelerationOf(settings)
    acceleration.catch(() => {
      acceleration = undefined
    })
    return acceleration
  }
  const startAppliance: StartAppliance = async (run) => {
    const { createAppliance } = await import('./cleaning/appliance/start.ts')
    const start = createAppliance({
      cacheFolder: join(settings.data, 'appliance'),
      acceleration: await chooseOnce(),
      ...(settings.cleaning.kernel === undefined ? {} : { kernelFolder: settings.cleaning.kernel }),
    })
    return await start(run)
  }
  let joined: Promise<Cleaner> | undefined
  const open = () => {
    joined ??= import('./cleaning/cleaner.ts').then(({ createCleaner }) =>
      createCleaner({ folder, runDirectory, startAppliance, log }),
    )
    return joined
  }
  // Without the folder nothing was ever cleaned here.
  const isUsed = () => joined !== undefined || existsSync(folder)
  return {
    async detect(...given) {
      // For `closeAll` of a later process: an examiner may be left, and be all there is. Without it there is still an answer.
      await mkdir(folder, { recursive: true, mode: 0o711 }).catch(() => {})
      return await (await open()).detect(...given)
    },
    async enter(...given) {
      await chooseOnce()
      await (await open()).enter(...given)
    },
    async clean(...given) {
      await chooseOnce()
      await mkdir(folder, { recursive: true, mode: 0o711 })
      return await (await open()).clean(...given)
    },
    close: async (key) => (isUsed() ? (await open()).close(key) : undefined),
    closeAll: async () => (isUsed() ? (await open()).closeAll() : undefined),
  }
}

/** As guests of this host run: tried once, and remembered by the host itself. Fault 'unavailable' without QEMU. */
async function accelerationOf({ host, data }: Settings): Promise<Acceleration> {
  const { chooseAcceleration, getQemuVersion } = await import('./host/qemu/acceleration.ts')
  const version = await getQemuVersion()
  if (host.acceleration !== 'auto') return host.acceleration
  const machines = join(data, 'machines')
  await mkdir(machines, { recursive: true })
  return (await chooseAcceleration(join(machines, 'acceleration.json'), version)).acceleration
}

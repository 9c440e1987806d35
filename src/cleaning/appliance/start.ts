import assert from 'node:assert/strict'
import { join } from 'node:path'
import { getQemuVersion } from '../../host/qemu/acceleration.ts'
import type { Acceleration } from '../../host/qemu/command-line.ts'
import { Fault } from '../../image/fault.ts'
import type { Edit } from '../../volume/contract.ts'
import { damaged, refuse } from '../../volume/refuse.ts'
import {
  APPLIANCE_VOLUME_COUNT_MAX,
  type Appliance,
  type ApplianceOptions,
  type StartAppliance,
} from '../appliance-contract.ts'
import { aboutVolume } from '../volume-fault.ts'
import { buildAppliance } from './build.ts'
import { applianceArguments } from './command-line.ts'
import { encodeOrders } from './orders.ts'
import { consolePath, GuestProcess } from './process.ts'
import { babble, type FailedReason, type Word } from './words.ts'

export interface ApplianceSettings {
  /** Where kernel and first file system are kept between runs. */
  readonly cacheFolder: string
  readonly acceleration: Acceleration
  /** Laid out as '/' is, with boot/ and lib/modules/. Absent: the system's own kernel, else what scripts/setup.sh fetched. */
  readonly kernelFolder?: string
  /** For small volumes; large ones get more, as e2fsck keeps maps of all blocks and inodes. */
  readonly memoryBytes?: number
  readonly cpuCount?: number
  readonly timeLimits?: Partial<TimeLimits>
}

export interface TimeLimits {
  readonly bootMs: number
  /** For the checks, and once more for the edits. */
  readonly workMs: number
  readonly workMsPerGib: number
}

/** The name of the pid file in the folder of a run, for `endProcess`. */
export const APPLIANCE_PID_FILE = 'appliance.pid'

const TIME_LIMITS: TimeLimits = { bootMs: 120_000, workMs: 600_000, workMsPerGib: 1_200 }
const GIB = 2 ** 30
const MEMORY_BYTES = 512 << 20
const MEMORY_BYTES_MAX = 4 * GIB
/** A millionth of a volume: e2fsck's maps take some bits for every block. */
const MEMORY_BYTES_PER_GIB = 1 << 20

const ROOTS = ['/', join(import.meta.dirname, '../../../.cache/kernel')]

/** An appliance of QEMU, made of what is installed on this host. */
export function createAppliance(settings: ApplianceSettings): StartAppliance {
  return async (run) => {
    run.signal.throwIfAborted()
    // Each is a PCI device of its own; the bus has 32 places.
    assert(run.volumes.length <= APPLIANCE_VOLUME_COUNT_MAX, 'there are no more volumes than it takes')
    const { acceleration, cacheFolder, kernelFolder, cpuCount = 1 } = settings
    const limits = { ...TIME_LIMITS, ...settings.timeLimits }
    const roots = kernelFolder === undefined ? ROOTS : [kernelFolder]
    const files = await buildAppliance(cacheFolder, roots, run.signal)
    const sizes = run.volumes.map(({ lengthBytes }) => lengthBytes)
    const workMs = limits.workMs + (limits.workMsPerGib * sizes.reduce((sum, size) => sum + size, 0)) / GIB
    const pidPath = join(run.folder, APPLIANCE_PID_FILE)
    const args = applianceArguments({
      files,
      run,
      acceleration,
      memoryBytes: memoryFor(Math.max(0, ...sizes), settings.memoryBytes),
      cpuCount,
      pidPath,
      consolePath: consolePath(run.folder),
      qemuVersion: await getQemuVersion(),
      isRoot: process.getuid?.() === 0,
    })
    const cpuSeconds = Math.ceil((limits.bootMs + 2 * workMs) / 1000) * (cpuCount + 1)
    const startedAt = performance.now()
    const guest = await GuestProcess.start(args, pidPath, run.folder, cpuSeconds, run.signal)
    try {
      expect(await guest.next(limits.bootMs), 'up')
      const bootMs = performance.now() - startedAt
      return new QemuAppliance(guest, files.tools, bootMs, await checkAll(guest, run, workMs), workMs)
    } catch (error) {
      await guest.end()
      throw error
    }
  }
}

class QemuAppliance implements Appliance {
  readonly bootMs: number
  readonly tools: Readonly<Record<string, string>>
  readonly checks: readonly string[]
  readonly #guest: GuestProcess
  readonly #workMs: number
  #hasOrders = false

  constructor(
    guest: GuestProcess,
    tools: Readonly<Record<string, string>>,
    bootMs: number,
    checks: readonly string[],
    workMs: number,
  ) {
    this.#guest = guest
    this.tools = tools
    this.bootMs = bootMs
    this.checks = checks
    this.#workMs = workMs
  }

  async apply(
    orders: readonly { readonly volume: number; readonly edits: readonly Edit[] }[],
  ): Promise<void> {
    assert(!this.#hasOrders, 'orders are given once')
    const wanted = orders.filter(({ edits }) => edits.length > 0)
    assert(
      wanted.every(({ volume }) => this.checks[volume] === 'clean'),
      'only clean file systems are changed',
    )
    this.#hasOrders = true
    if (wanted.length === 0) return
    try {
      const bytes = encodeOrders(wanted)
      this.#guest.say(Buffer.concat([Buffer.from(`apply ${bytes.length}\n`), bytes]))
      await this.#untilDone(wanted.map(({ volume }) => volume))
    } catch (error) {
      await this.end()
      throw error
    }
  }

  /** It goes from volume to volume; what ends it is the fault of that where it is. */
  async #untilDone(volumes: readonly number[]): Promise<void> {
    const end = performance.now() + this.#workMs
    const todo = [...volumes]
    let volume = todo[0] ?? 0
    await aboutVolume(
      () => volume,
      async () => {
        for (;;) {
          const word = await this.#guest.next(end - performance.now())
          if (word.is === 'failed') throw notDone(word.reason, word.order)
          if (word.is !== 'at') return expect(word, 'done')
          if (word.volume !== todo.shift()) throw babble()
          volume = word.volume
        }
      },
    )
  }

  /** Whatever it was asked to write was on the disks before it said so: there is nothing to wait for. */
  async end(): Promise<void> {
    await this.#guest.end()
  }
}

async function checkAll(guest: GuestProcess, run: ApplianceOptions, workMs: number): Promise<string[]> {
  const end = performance.now() + workMs
  guest.say(Buffer.from(`check ${run.volumes.length}\n`))
  const checks: string[] = []
  await aboutVolume(
    () => checks.length,
    async () => {
      while (checks.length < run.volumes.length) {
        const word = await guest.next(end - performance.now())
        if (word.is !== 'checked' || word.volume !== checks.length) throw babble()
        checks.push(outcome(word.code))
      }
    },
  )
  expect(await guest.next(end - performance.now()), 'ready')
  return checks
}

/** Source: e2fsck(8): a sum of 1 and 2 for errors that were mended, 4 for errors that were not, 8 and above for its own. */
function outcome(code: number): string {
  if (code === IO_CODE) throw ioFault()
  if ((code & ~3) === 0) return 'clean'
  // A shell's code for a program that was killed, as the kernel does for want of memory.
  if (code > 128)
    return 'Checking the file system takes more memory than cleaning may take. Clean it inside the machine.'
  return code & 8
    ? 'The file system cannot be checked: its superblock is damaged, or it uses a feature that this host does not know. Check it inside the machine, or install a newer e2fsprogs here.'
    : 'The file system is damaged in a way that is not mended without asking. Run e2fsck on it inside the machine, then try again.'
}

const IO_CODE = 64

/** `order`: how many edits had been looked at, of all volumes. */
function notDone(reason: FailedReason, order: number): Fault {
  const cause = new Error(`the appliance ended at order ${order}`)
  switch (reason) {
    case 'full':
      return refuse(
        'full',
        'The file system is so full that it cannot be cleaned. Make a little room in it, then try again.',
        cause,
      )
    case 'io':
      return ioFault()
    case 'gone':
      return damaged('what is to be cleaned is not where it was read')
    case 'unclean':
      return damaged('it has errors after its files were changed')
    case 'odd':
      return refuse(
        'unsupported',
        'Something cannot be cleaned in this file system (a feature that this host does not know, or an encrypted file). Clean it inside the machine, or leave it out.',
        cause,
      )
    case 'cut':
      return new Fault('unavailable', 'The appliance did not understand its orders. Try again.', {
        subject: 'host',
        cause,
      })
    default:
      return reason satisfies never
  }
}

function ioFault(): Fault {
  return new Fault(
    'unavailable',
    'A disk could not be read or written while it was cleaned. See that the host has room and the source is there, then try again.',
    { subject: 'host' },
  )
}

function expect(word: Word, is: Word['is']): void {
  if (word.is !== is) throw babble()
}

function memoryFor(sizeBytes: number, least = MEMORY_BYTES): number {
  const more = Math.ceil(sizeBytes / GIB) * MEMORY_BYTES_PER_GIB
  return Math.max(least, Math.min(least + more, MEMORY_BYTES_MAX))
}

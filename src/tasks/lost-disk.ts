import { setTimeout as delay } from 'node:timers/promises'
import { Fault, isFault } from '../image/fault.ts'
import type { MachineId } from '../image/ids.ts'
import type { TaskParts } from './parts.ts'

const POWER_LOOKS = 20
const POWER_AGAIN_MS = 100
/** After a long absence of ours, QEMU looks for its base again within 16 s; until then its reads fail. */
const PATIENCE = { forMs: 40_000, againMs: 2_000 }

/**
 * Runs the reading of a capture again while a disk answers with an I/O error, until a base that was away must be back:
 * guests and exports outlive the server that holds their bases. A second run reads on where the first one ended. Its patience
 * begins with the first error, however long the reading had gone well.
 */
export async function readPatiently<Result>(
  read: () => Promise<Result>,
  signal: AbortSignal,
  { forMs, againMs } = PATIENCE,
): Promise<Result> {
  let endMs: number | undefined
  for (;;) {
    try {
      return await read()
    } catch (error) {
      // After the first, who connects to the base anew is told that it is away in other words.
      const mayPass =
        isFault(error, 'unavailable') &&
        error.subject === 'disk' &&
        (error.reason === 'EIO' || (endMs !== undefined && error.reason === undefined))
      endMs ??= performance.now() + forMs
      if (!mayPass || performance.now() > endMs) throw error
      await delay(againMs, undefined, { signal })
    }
  }
}

/**
 * Why a capture could not begin or read on. Whoever opens or reads a disk sees only that a connection ended or that a read
 * failed; the machine behind it says what happened. Other errors come back as they are.
 */
export async function explainLostDisk(
  { catalog, host }: Pick<TaskParts, 'catalog' | 'host'>,
  id: MachineId,
  wasRunning: boolean,
  error: unknown,
): Promise<unknown> {
  if (!isFault(error, 'unavailable') || (error.subject !== 'disk' && error.subject !== 'host')) return error
  const because = (message: string) => new Fault('unavailable', message, { subject: 'machine', cause: error })
  const row = await catalog.rows.selectFrom('machine').select('state').where('id', '=', id).executeTakeFirst()
  if (row === undefined || row.state === 'deleting') {
    return new Fault('conflict', 'The machine was deleted while its disks were being captured.', {
      subject: 'machine',
      cause: error,
    })
  }
  if (!wasRunning) return error
  // A connection ends a moment before its process is seen to be gone.
  const looks = error.reason === undefined ? POWER_LOOKS : 1
  for (let look = 0; look < looks; look++) {
    if (look > 0) await delay(POWER_AGAIN_MS)
    if ((await host.power(id)) === 'running') continue
    return because(
      'The machine went off while its disks were being captured, and with it their moment. Capture it again.',
    )
  }
  // How QEMU answers reads of a snapshot that it gave up, so that the guest need not wait.
  if (error.reason !== 'EINVAL') return error
  return because(
    "The moment of the capture is lost: the host's disk is full or too slow to keep what the guest wrote over, or " +
      'the server was away for long. Capture it again, with room on the disk, or the stopped machine.',
  )
}

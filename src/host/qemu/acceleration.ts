import { constants } from 'node:fs'
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Fault, isFault } from '../../image/fault.ts'
import { findText, writeDurably } from '../tools/durable.ts'
import { runTool } from '../tools/run.ts'
import type { Acceleration } from './command-line.ts'
import { TRIAL_EXIT_CODE, TRIAL_MARKER, trialDisk } from './trial-guest.ts'

export const QEMU = 'qemu-system-x86_64'
export const QEMU_PACKAGE = 'qemu-system-x86'
/** A working KVM needs a tenth of a second. One that faults has been seen to need three to fail. */
const TRIAL_TIMEOUT_MS = 8_000

/** What the answer depends on: when any of it changes, KVM is tried again. */
interface Circumstances {
  readonly qemuVersion: string
  readonly kernelRelease: string
  readonly kvmOpens: boolean
}

export interface AccelerationAnswer extends Circumstances {
  readonly acceleration: Acceleration
  readonly why: string
}

/** Throws Fault 'unavailable' if QEMU is not installed. */
export async function getQemuVersion(): Promise<string> {
  const text = await runTool(QEMU, ['--version'], {
    doing: 'Asking QEMU for its version',
    package: QEMU_PACKAGE,
    timeoutMs: 10_000,
  })
  return text.split('\n')[0] ?? ''
}

/** 'unclear' is no word about the accelerator: the host was busy, or had no memory or disk space. */
export interface Trial {
  readonly outcome: 'ran' | 'failed' | 'unclear'
  readonly why: string
}

/**
 * 'kvm' where a guest really runs under it, else 'tcg'. `/dev/kvm` alone proves nothing: some hosts offer one under
 * which guests fault. A clear answer is remembered in `recordPath` with what it depends on; after an unclear one guests
 * run under TCG this time, and the next start tries again.
 */
export async function chooseAcceleration(
  recordPath: string,
  qemuVersion: string,
  look: { kvmOpens(): Promise<boolean>; tryKvm(): Promise<Trial> } = {
    kvmOpens,
    tryKvm: () => tryGuest('kvm'),
  },
): Promise<AccelerationAnswer> {
  const now: Circumstances = { qemuVersion, kernelRelease: release(), kvmOpens: await look.kvmOpens() }
  const remembered = parseAnswer(await findText(recordPath).catch(noneOnFault))
  if (remembered !== undefined && isSame(remembered, now)) return remembered
  const { outcome, why } = now.kvmOpens ? await look.tryKvm() : NO_KVM
  const answer: AccelerationAnswer = { ...now, acceleration: outcome === 'ran' ? 'kvm' : 'tcg', why }
  // Where it cannot be written down, the next start tries again too.
  if (outcome !== 'unclear')
    await writeDurably(recordPath, `${JSON.stringify(answer, null, 1)}\n`).catch(noneOnFault)
  return answer
}

const NO_KVM: Trial = { outcome: 'failed', why: '/dev/kvm is not there or may not be opened by this user' }

/** Throws Fault 'invalid' when the settings demand KVM and there is none to open. */
export async function demandKvm(): Promise<void> {
  if (await kvmOpens()) return
  throw new Fault('invalid', "KVM is demanded, but /dev/kvm cannot be opened. Choose 'auto' or 'tcg'.", {
    subject: 'host',
  })
}

/** Boots the trial guest. */
export async function tryGuest(acceleration: Acceleration, timeoutMs = TRIAL_TIMEOUT_MS): Promise<Trial> {
  let folder: string | undefined
  try {
    folder = await mkdtemp(join(tmpdir(), 'calotype-trial-'))
    const path = join(folder, 'disk')
    await writeFile(path, trialDisk())
    const disk = { driver: 'raw', 'node-name': 'd', 'read-only': true }
    const file = { driver: 'file', filename: path, 'read-only': true }
    const guest = ['-m', '16M', '-cpu', acceleration === 'kvm' ? 'host' : 'max', '-no-reboot']
    const shape = ['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-serial', 'stdio']
    const devices = ['-device', 'virtio-blk-pci,drive=d', '-device', 'isa-debug-exit,iobase=0xf4']
    const blocks = ['-blockdev', JSON.stringify({ ...disk, file })]
    const args = ['-machine', `pc,accel=${acceleration}`, ...guest, ...shape, ...blocks, ...devices]
    const output = await runTool(QEMU, args, {
      doing: 'Trying a guest',
      package: QEMU_PACKAGE,
      timeoutMs,
      // 0: the guest faulted until the processor reset itself.
      goodExitCodes: [0, TRIAL_EXIT_CODE],
    })
    return output.includes(TRIAL_MARKER)
      ? { outcome: 'ran', why: `a trial guest ran under ${acceleration}` }
      : { outcome: 'failed', why: `a trial guest faulted under ${acceleration}` }
  } catch (error) {
    return failedTrial(error)
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  }
}

/** QEMU crashed, or complained of KVM, though not because somebody else uses it now; all else may pass. */
function failedTrial(error: unknown): Trial {
  const words = isFault(error) && error.cause instanceof Error ? error.cause : undefined
  const ended = words?.cause as { readonly signal?: unknown } | undefined
  const text = words?.message ?? String(error)
  const hasCrashed = ended?.signal === 'SIGABRT' || ended?.signal === 'SIGSEGV'
  const isAboutKvm = /kvm/i.test(text) && !/memory|busy|temporarily|too many/i.test(text)
  const why = `a trial guest did not run: ${text.split('\n')[0]?.slice(0, 300)}`
  return { outcome: hasCrashed || isAboutKvm ? 'failed' : 'unclear', why }
}

function noneOnFault(error: unknown): undefined {
  if (!isFault(error)) throw error
}

async function kvmOpens(): Promise<boolean> {
  return access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  )
}

function parseAnswer(text: string | undefined): AccelerationAnswer | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as AccelerationAnswer)
  } catch {
    // A damaged record is as good as none: the trial is made again.
    return undefined
  }
}

function isSame(answer: AccelerationAnswer, now: Circumstances): boolean {
  return (
    answer.qemuVersion === now.qemuVersion &&
    answer.kernelRelease === now.kernelRelease &&
    answer.kvmOpens === now.kvmOpens &&
    (answer.acceleration === 'kvm' || answer.acceleration === 'tcg')
  )
}

import { isFault } from '../../image/fault.ts'
import type { ExportedDisk } from '../contract.ts'
import { runTool } from './run.ts'

/**
 * A dirty bitmap in a disk's own layer: which pieces of the disk were written since the capture it is named after. QEMU
 * keeps it in memory while the guest runs, marks the one in the file as in use before the first write, and stores it when
 * it ends in order. So a bitmap that is not in use in a file at rest knows every write. Source: QEMU 7.2,
 * docs/interop/bitmaps.rst and qcow2.txt, "Bitmaps extension".
 */
export interface Bitmap {
  readonly name: string
  readonly granularityBytes: number
  readonly isRecording: boolean
  /** False for one whose QEMU did not end in order, and so did not store it. */
  readonly isIntact: boolean
}

/** A step on the way to the bitmaps that are to be there. */
export type BitmapStep =
  | { readonly do: 'add' | 'enable' | 'remove'; readonly name: string }
  | { readonly do: 'merge'; readonly name: string; readonly from: string }

export type Outcome = 'taken' | 'given-up'

/** The size of our chunks: whatever is written in one of them, all of it has to be read. */
export const BITMAP_GRANULARITY_BYTES = 256 * 1024
/** Begins the name of the meta context that tells a bitmap over NBD. Source: QEMU 7.2, docs/interop/nbd.txt. */
export const CONTEXT_OF_BITMAP = 'qemu:dirty-bitmap:'
const PREFIX = 'c-'
const NOT_IN_ORDER =
  "The record of changes in the disk's file could not be put in order. Look whether the host's disk is full."
const TIMEOUT_MS = 30_000

/** The whole key: two captures never share a bitmap. QEMU takes 1023 bytes. */
export function bitmapName(key: string): string {
  return PREFIX + key
}

/** QEMU's own and anyone else's bitmaps are not ours to touch. */
export function isOurs(name: string): boolean {
  return name.startsWith(PREFIX)
}

/** Why a capture may not trust what `key`'s bitmap among `bitmaps` says, for people; '' if it may. */
function doubtAbout(bitmaps: readonly Bitmap[], key: string): string {
  const bitmap = bitmaps.find((one) => one.name === bitmapName(key))
  if (bitmap === undefined)
    return 'Nothing tells what changed since the last capture: the hypervisor was killed before it had stored that, or the disk got other content.'
  if (!bitmap.isIntact)
    return 'The hypervisor was killed since the last capture, so what was written is not known.'
  if (!bitmap.isRecording || bitmap.granularityBytes !== BITMAP_GRANULARITY_BYTES)
    return 'Changes were not recorded all the time since the last capture.'
  return ''
}

/** What an export can tell of the changes since the capture `since`, once `stepsBefore` of `key` are done. */
export function tellChanges(
  bitmaps: readonly Bitmap[],
  key: string,
  since: string | undefined,
): Pick<ExportedDisk, 'changes' | 'changesWhy'> {
  if (since === undefined) return { changesWhy: '' }
  const own = bitmapName(key)
  const why = doubtAbout(
    bitmaps.filter((one) => one.name !== own),
    since,
  )
  if (why !== '') return { changesWhy: why }
  return { changes: { name: CONTEXT_OF_BITMAP + bitmapName(since), most: 1 }, changesWhy: '' }
}

/** What goes before a capture `key`: what no capture could ever trust, and what an earlier try of this key left. */
export function stepsBefore(bitmaps: readonly Bitmap[], key: string): BitmapStep[] {
  return bitmaps
    .filter(({ name }) => isOurs(name) && (name === bitmapName(key) || !canBeTrusted(bitmaps, name)))
    .map(({ name }) => ({ do: 'remove', name }))
}

/**
 * What ends a capture `key` that had added its bitmap at its moment and had stopped that of `since` at the same moment.
 * 'taken': its bitmap is the only one from now on. 'given-up': `since` gets back what it missed. Where there is a doubt,
 * both go, and the next capture reads everything. May be worked out again after a crash between any two steps.
 */
export function stepsAfter(
  bitmaps: readonly Bitmap[],
  key: string,
  since: string | undefined,
  outcome: Outcome,
): BitmapStep[] {
  const remove = ({ name }: Bitmap): BitmapStep => ({ do: 'remove', name })
  const ours = bitmaps.filter((one) => isOurs(one.name))
  const own = ours.find((one) => one.name === bitmapName(key))
  const isGood = own !== undefined && canBeTrusted(bitmaps, own.name)
  if (outcome === 'taken') return ours.filter((one) => one !== own || !isGood).map(remove)
  const previous = since === undefined ? undefined : ours.find((one) => one.name === bitmapName(since))
  const spoilt = ours.filter((one) => one !== own && one !== previous && !canBeTrusted(bitmaps, one.name))
  const steps = spoilt.map(remove)
  if (previous !== undefined && isGood && canBeTrusted([{ ...previous, isRecording: true }], previous.name)) {
    // It is trusted from the moment it records, so that comes last: whoever stops before leaves nothing half told. What is
    // written meanwhile is in `own`, and in a running guest all of it is one transaction.
    steps.push({ do: 'merge', name: previous.name, from: own.name })
    if (!previous.isRecording) steps.push({ do: 'enable', name: previous.name })
  } else if (previous !== undefined && (own !== undefined || !canBeTrusted(bitmaps, previous.name))) {
    steps.push(remove(previous))
  }
  return own === undefined ? steps : [...steps, remove(own)]
}

function canBeTrusted(bitmaps: readonly Bitmap[], name: string): boolean {
  return doubtAbout(bitmaps, name.slice(PREFIX.length)) === ''
}

/** The bitmaps in a qcow2 file that no process writes. */
export async function readBitmaps(path: string): Promise<Bitmap[]> {
  const text = await qemuImg(['info', '--output=json', '-f', 'qcow2', path])
  const info = JSON.parse(text) as {
    'format-specific'?: { data?: { bitmaps?: { name: string; granularity: number; flags: string[] }[] } }
  }
  return (info['format-specific']?.data?.bitmaps ?? []).map(({ name, granularity, flags }) => ({
    name,
    granularityBytes: granularity,
    isRecording: flags.includes('auto'),
    isIntact: !flags.includes('in-use'),
  }))
}

/** Changes the bitmaps in a qcow2 file that no process has open. A crash leaves a bitmap done, undone or not intact. */
export async function changeBitmaps(path: string, steps: readonly BitmapStep[]): Promise<void> {
  for (const step of steps) {
    const options =
      step.do === 'add'
        ? ['--add', '-g', String(BITMAP_GRANULARITY_BYTES)]
        : step.do === 'merge'
          ? ['--merge', step.from]
          : [`--${step.do}`]
    await qemuImg(['bitmap', ...options, '-f', 'qcow2', path, step.name])
  }
}

/**
 * What goes before a capture `key` of a disk whose guest is off, and what its bitmaps tell then. Where another capture's
 * bitmap cannot be taken out, be it for want of room, nothing is told: the tool may have spoilt the others on its way.
 * Throws a Fault where one of this key cannot, as it would pass for the one of the moment to come.
 */
export async function prepareFile(
  path: string,
  key: string,
  since: string | undefined,
): Promise<Pick<ExportedDisk, 'changes' | 'changesWhy'>> {
  const bitmaps = await readBitmaps(path)
  const steps = stepsBefore(bitmaps, key)
  const isOwn = ({ name }: BitmapStep) => name === bitmapName(key)
  await changeBitmaps(path, steps.filter(isOwn))
  try {
    await changeBitmaps(
      path,
      steps.filter((step) => !isOwn(step)),
    )
  } catch (error) {
    if (!isFault(error)) throw error
    return { changesWhy: since === undefined ? '' : NOT_IN_ORDER }
  }
  return tellChanges(bitmaps, key, since)
}

/**
 * Ends a capture in the file of a disk whose guest is off. `wasStill`: its moment lasted all the time, so a bitmap that
 * starts now has missed nothing. A file that cannot be changed, be it for want of room, keeps what can be told from what
 * it holds: nothing in it can be trusted that ought not to be, and no machine has to stay off for it.
 */
export async function settleFile(
  path: string,
  key: string,
  end: { readonly since: string | undefined; readonly outcome: Outcome; readonly wasStill: boolean },
): Promise<void> {
  try {
    const own = bitmapName(key)
    if (end.wasStill) {
      const isThere = (await readBitmaps(path)).some(({ name }) => name === own)
      if (end.outcome === 'taken' && !isThere) await changeBitmaps(path, [{ do: 'add', name: own }])
      if (end.outcome === 'given-up' && isThere) await changeBitmaps(path, [{ do: 'remove', name: own }])
      if (end.outcome === 'given-up') return
    }
    await changeBitmaps(path, stepsAfter(await readBitmaps(path), key, end.since, end.outcome))
  } catch (error) {
    if (!isFault(error)) throw error
  }
}

function qemuImg(args: readonly string[]): Promise<string> {
  return runTool('qemu-img', args, {
    doing: "Looking after a disk's record of changes",
    package: 'qemu-utils',
    timeoutMs: TIMEOUT_MS,
  })
}

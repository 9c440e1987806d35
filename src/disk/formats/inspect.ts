import { bundleInspector } from './bundle-mark.ts'
import type { ByteSource, FormatInspector, InspectedDisk, Inspection, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { isoInspector } from './iso.ts'
import { luksInspector } from './luks.ts'
import { inspectOva, ovaInspector } from './ova.ts'
import { packingInspectors } from './packings.ts'
import { inspectQcow2, qcow2Inspector } from './qcow2.ts'
import { inspectQed, qedInspector } from './qed.ts'
import { findPartitionTable, findStranger, inspectRaw } from './raw.ts'
import { readUpTo } from './source.ts'
import { inspectVdi, vdiInspector } from './vdi.ts'
import { inspectVhd, vhdInspector } from './vhd.ts'
import { inspectVhdx, vhdxInspector } from './vhdx.ts'
import { inspectVmdk, vmdkInspector } from './vmdk.ts'
import { withEnds } from './windows.ts'

interface Entry {
  readonly inspector: FormatInspector
  inspect(source: ByteSource, options: InspectionOptions): Promise<Inspection>
}

/** Every format that says in itself what it is. Raw is what is left. */
const ENTRIES: readonly Entry[] = [
  diskEntry(qcow2Inspector, inspectQcow2),
  diskEntry(qedInspector, inspectQed),
  diskEntry(vmdkInspector, inspectVmdk),
  diskEntry(vhdInspector, inspectVhd),
  diskEntry(vhdxInspector, inspectVhdx),
  diskEntry(vdiInspector, inspectVdi),
  { inspector: ovaInspector, inspect: inspectOva },
  ...packingInspectors.map((inspector) => ({
    inspector,
    inspect: () => Promise.resolve<Inspection>({ is: 'packed', packing: inspector.format }),
  })),
  { inspector: bundleInspector, inspect: () => Promise.resolve<Inspection>({ is: 'bundle' }) },
  { inspector: isoInspector, inspect: () => Promise.reject(refuseIso()) },
  { inspector: luksInspector, inspect: () => Promise.reject(refuseLuks()) },
]

const TITLES: Readonly<Record<FormatInspector['format'], string>> = {
  raw: 'a raw disk',
  qcow2: 'qcow2',
  qed: 'QED',
  vmdk: 'VMDK',
  vhd: 'VHD',
  vhdx: 'VHDX',
  vdi: 'VDI',
  ova: 'an OVA archive',
  iso: 'an ISO',
  luks: 'LUKS',
  gzip: 'gzip',
  xz: 'xz',
  zstd: 'zstd',
  bundle: 'a bundle of images',
}

/**
 * Decides what a stranger's file is, before anything else opens it: every format is asked for its marks, exactly one may
 * find them, and that one then checks every number that a reader of the format would rely on. Pure but for `source`, at
 * most 64 MiB of memory, time linear in the file's own tables. Faults: 'invalid' 'file' with a `RefusalReason`, and what
 * the source throws; the signal's own reason where it is aborted.
 */
export async function inspect(source: ByteSource, options: InspectionOptions): Promise<Inspection> {
  const file = await withEnds(source, options.signal)
  const matching: Entry[] = []
  for (const entry of ENTRIES) {
    if (await entry.inspector.matches(file, options.signal)) matching.push(entry)
  }
  const [found, second] = matching
  if (found === undefined) return await inspectUnmarked(file, options)
  if (second !== undefined) throw refuseSeveral(`${title(found)} and ${title(second)}`)
  const hidden = await findHidden(file, found, options.signal)
  if (hidden !== undefined) throw refuseSeveral(`${title(found)} and ${hidden}`)
  checkDeclared(found, options)
  return await found.inspect(file, options)
}

/** Of the files that say nothing, only a raw disk is one. */
async function inspectUnmarked(source: ByteSource, options: InspectionOptions): Promise<Inspection> {
  if (options.declared !== undefined && options.declared !== 'raw') {
    throw refuseFile(
      'other-format',
      `The file is said to be ${TITLES[options.declared]}, but nothing in it says so. ` +
        'Check that it was sent whole, or say what it is.',
    )
  }
  return { is: 'disk', disk: await inspectRaw(source, options) }
}

/** A second thing that a marked file is, of those that have no inspector: a disk with partitions, or a format that we do not read. */
async function findHidden(
  source: ByteSource,
  found: Entry,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  // A hybrid ISO has a partition table of its own, and is refused as what it is.
  if (found.inspector.format === 'iso') return undefined
  // The mark of tar is among the strangers'; of an OVA all that stands in it is read anyway.
  const stranger = found.inspector.format === 'ova' ? undefined : await findStranger(source, signal)
  if (stranger !== undefined) return stranger
  if ((await findPartitionTable(source, signal)) === undefined) return undefined
  // A fixed VHD is a raw disk with a footer behind it, so it begins as that disk does; a dynamic one has a copy of its
  // footer there.
  const isFixedVhd =
    found.inspector.format === 'vhd' &&
    (await readUpTo(source, 0, 8, signal)).toString('latin1') !== 'conectix'
  return isFixedVhd ? undefined : 'a disk with partitions'
}

function checkDeclared(found: Entry, { declared }: InspectionOptions): void {
  const { format } = found.inspector
  // What is packed is compared once it is unpacked; ISO and LUKS are refused for what they are.
  const isCompared = !(['gzip', 'xz', 'zstd', 'iso', 'luks'] as readonly string[]).includes(format)
  if (declared === undefined || declared === format || !isCompared) return
  throw refuseFile(
    'other-format',
    `The file is said to be ${TITLES[declared]}, but it is ${title(found)}. Say what it is, or bring in the file you meant.`,
  )
}

function title(entry: Entry): string {
  return TITLES[entry.inspector.format]
}

function diskEntry(
  inspector: FormatInspector,
  inspectDisk: (source: ByteSource, options: InspectionOptions) => Promise<InspectedDisk>,
): Entry {
  return {
    inspector,
    inspect: async (source, options) => ({ is: 'disk', disk: await inspectDisk(source, options) }),
  }
}

function refuseSeveral(what: string): Error {
  return refuseFile(
    'several-formats',
    `The file is several things at once (${what}), so two programs could read two disks out of it. ` +
      'Convert it to a fresh file: qemu-img convert -f FORMAT -O qcow2 OLD NEW.',
  )
}

function refuseIso(): Error {
  return refuseFile(
    'iso',
    'This is an ISO: an installer, no disk of an installed system. Install a machine from it first, then capture that machine.',
  )
}

function refuseLuks(): Error {
  return refuseFile(
    'encrypted',
    'The whole disk is encrypted with LUKS, and no key comes with it. Decrypt it first: cryptsetup reencrypt --decrypt.',
  )
}

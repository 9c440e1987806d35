import type { ByteSource, FormatInspector, InspectedDisk, Inspection, InspectionOptions } from './contract.ts'
import { refuseFile } from './contract.ts'
import { MANIFEST_BYTES_MAX, parseManifest, verifyManifest } from './ova-manifest.ts'
import { type Ovf, type OvfDisk, parseOvf } from './ovf.ts'
import { readUpTo, slice } from './source.ts'
import { isTarHeader, readTar, type TarMember } from './tar.ts'
import { refuseArchive } from './tar-refuse.ts'
import { inspectVmdk } from './vmdk.ts'

const OVF_BYTES_MAX = 1024 * 1024

export const ovaInspector: FormatInspector = {
  format: 'ova',
  /** Any tar: what is in it is told by `inspectOva`. */
  async matches(source, signal) {
    return isTarHeader(await readUpTo(source, 0, 512, signal))
  },
}

/**
 * A machine in an archive: one description, its disks as VMDK, and a manifest that is checked where there is one. What
 * is found here is what is used: offsets in the very file, never a name that is looked up again.
 * Source: DMTF DSP0243, "OVF package as a single file".
 */
export async function inspectOva(source: ByteSource, options: InspectionOptions): Promise<Inspection> {
  const { signal } = options
  const members = await readTar(source, signal)
  const { description, manifest } = findParts(members)
  const ovf = parseOvf(await readMember(source, description, OVF_BYTES_MAX, signal))
  const byName = new Map(members.map((member) => [member.name, member]))
  for (const name of ovf.fileNames) {
    if (!byName.has(name)) throw refuseArchive('names a file that is not in it')
  }
  const entries =
    manifest && parseManifest(await readMember(source, manifest, MANIFEST_BYTES_MAX, signal), members)
  if (entries !== undefined) checkCovered(entries, description, ovf)

  const disks: InspectedDisk[] = []
  for (const disk of ovf.disks)
    disks.push(await inspectMember(source, byName.get(disk.fileName), disk, options))
  // Last, because it reads everything: what can be refused by a look is refused before.
  if (entries !== undefined) await verifyManifest(source, members, entries, signal)
  return { is: 'archive', disks, machine: ovf.machine }
}

/** The description comes first, so that an archive can be understood while it arrives; a manifest and a certificate follow. */
function findParts(members: readonly TarMember[]): {
  description: TarMember
  manifest: TarMember | undefined
} {
  const withEnd = (end: string) => members.filter(({ name }) => name.toLowerCase().endsWith(end))
  const [description, ...moreDescriptions] = withEnd('.ovf')
  const [manifest, ...moreManifests] = withEnd('.mf')
  const [certificate, ...moreCertificates] = withEnd('.cert')
  if (description === undefined || description !== members[0]) {
    throw refuseArchive('does not begin with a description (.ovf), so it is no OVA')
  }
  if (moreDescriptions.length > 0 || moreManifests.length > 0 || moreCertificates.length > 0) {
    throw refuseArchive('holds two descriptions, manifests or certificates')
  }
  // Who signed it is nobody we know: a certificate is left alone, where it stands for something at all.
  if (certificate !== undefined && (manifest === undefined || certificate.offset < manifest.offset)) {
    throw refuseArchive('has a certificate without a manifest in front of it')
  }
  return { description, manifest }
}

async function readMember(
  source: ByteSource,
  member: TarMember,
  bytesMax: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  if (member.lengthBytes > bytesMax)
    throw refuseArchive('has a description or a manifest that is far too long')
  return await source.read(member.offset, member.lengthBytes, signal)
}

/** A manifest that leaves out what matters proves nothing. */
function checkCovered(entries: ReadonlyMap<string, unknown>, description: TarMember, ovf: Ovf): void {
  for (const name of [description.name, ...ovf.fileNames]) {
    if (!entries.has(name)) throw refuseArchive('has a manifest (.mf) that leaves files out')
  }
}

async function inspectMember(
  source: ByteSource,
  member: TarMember | undefined,
  { capacityBytes, unitBytes }: OvfDisk,
  options: InspectionOptions,
): Promise<InspectedDisk> {
  if (member === undefined) throw refuseArchive('names a file that is not in it')
  const disk = await inspectVmdk(slice(source, member.offset, member.lengthBytes), options)
  const missingBytes = disk.virtualBytes - capacityBytes
  // In a larger unit the description may have cut what is over, never added.
  if (missingBytes < 0 || missingBytes >= unitBytes) {
    throw refuseFile(
      'size',
      'The description (.ovf) of the archive tells another size of a disk than the disk itself. Export the machine again.',
    )
  }
  return { ...disk, offset: member.offset }
}

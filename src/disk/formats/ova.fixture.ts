import { createHash } from 'node:crypto'
import { buildVmdk } from './vmdk.fixture.ts'

const BLOCK = 512

export interface TarEntry {
  readonly name: string
  readonly bytes: Buffer
  /** '0' for a plain file. */
  readonly type?: string
  readonly linkName?: string
  /** Before the sum of the header is made. */
  readonly patch?: (header: Buffer) => void
}

/** An archive by hand: ustar headers, and two blocks of zeros in the end or what else is given. */
export function buildTar(entries: readonly TarEntry[], end: Buffer = Buffer.alloc(2 * BLOCK)): Buffer {
  const pieces = entries.flatMap(({ name, bytes, type, linkName, patch }) => {
    const header = Buffer.alloc(BLOCK)
    header.write(name, 0, 100, 'utf8')
    header.write('0000644\0', 100, 'latin1')
    header.write('0000000\0', 108, 'latin1')
    header.write('0000000\0', 116, 'latin1')
    header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124, 'latin1')
    header.write('00000000000\0', 136, 'latin1')
    header.write(type ?? '0', 156, 'latin1')
    header.write(linkName ?? '', 157, 100, 'utf8')
    header.write('ustar\u000000', 257, 'latin1')
    patch?.(header)
    header.fill(0x20, 148, 156)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    return [header, bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]
  })
  return Buffer.concat([...pieces, end])
}

export interface OvaShape {
  /** In the order of the machine's list. */
  readonly disks?: readonly Buffer[]
  /** In place of the text that fits; made of it. */
  readonly changeOvf?: (ovf: string) => string
  /** In place of the one that fits; undefined for none. */
  readonly changeManifest?: (manifest: string) => string | undefined
  /** Behind the disks. */
  readonly more?: readonly TarEntry[]
  /** In place of all members. */
  readonly changeEntries?: (entries: TarEntry[]) => TarEntry[]
}

/** An archive of one machine, with a manifest. */
export function buildOva(shape: OvaShape = {}): Buffer {
  const disks = shape.disks ?? [buildVmdk({ kind: 'streamOptimized' })]
  const named = disks.map((bytes, index) => ({ name: `machine-disk${index + 1}.vmdk`, bytes }))
  const text = buildOvf(named)
  const entries: TarEntry[] = [
    { name: 'machine.ovf', bytes: Buffer.from(shape.changeOvf?.(text) ?? text) },
    ...named,
    ...(shape.more ?? []),
  ]
  const manifest = entries.map(({ name, bytes }) => `SHA256(${name})= ${sha256(bytes)}\n`).join('')
  const changed = shape.changeManifest ? shape.changeManifest(manifest) : manifest
  if (changed !== undefined) entries.splice(1, 0, { name: 'machine.mf', bytes: Buffer.from(changed) })
  return buildTar(shape.changeEntries?.(entries) ?? entries)
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** A description of one machine as the tools write it. */
export function buildOvf(files: readonly { readonly name: string; readonly bytes: Buffer }[]): string {
  const all = (line: (index: number, file: { name: string; bytes: Buffer }) => string) =>
    files.map((file, index) => line(index + 1, file)).join('\n    ')
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    ${all((index, { name, bytes }) => `<File ovf:href="${name}" ovf:id="file${index}" ovf:size="${bytes.length}"/>`)}
  </References>
  <DiskSection>
    <Info>Disks</Info>
    ${all((index, { bytes }) => `<Disk ovf:capacity="${capacityOf(bytes)}" ovf:capacityAllocationUnits="byte" ovf:diskId="disk${index}" ovf:fileRef="file${index}" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`)}
  </DiskSection>
  <VirtualSystem ovf:id="machine">
    <Info>A machine</Info>
    <Name>Till 4</Name>
    <OperatingSystemSection ovf:id="94" vmw:osType="ubuntu64Guest">
      <Info>The system</Info>
      <Description>Ubuntu Linux (64-bit)</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Hardware</Info>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>2048</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceType>6</rasd:ResourceType>
      </Item>
      ${all(
        (index) => `<Item>
        <rasd:AddressOnParent>${index - 1}</rasd:AddressOnParent>
        <rasd:HostResource>ovf:/disk/disk${index}</rasd:HostResource>
        <rasd:InstanceID>${10 + index}</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>`,
      )}
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`
}

/** As the file itself says; anything where it is no VMDK. */
function capacityOf(vmdk: Buffer): bigint {
  return vmdk.length >= 20 ? vmdk.readBigUInt64LE(12) * 512n : 0n
}

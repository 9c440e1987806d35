import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { refused } from './checks.fixture.ts'
import type { Inspection } from './contract.ts'
import { inspect } from './inspect.ts'
import { buildOva, buildTar, type OvaShape } from './ova.fixture.ts'
import { bufferSource, slice } from './source.ts'
import { buildVmdk } from './vmdk.fixture.ts'

const OPTIONS = { virtualBytesMax: 2 ** 41, declared: 'ova' } as const

async function archive(shape: OvaShape = {}): Promise<Inspection & { is: 'archive' }> {
  const inspection = await inspect(bufferSource(buildOva(shape)), OPTIONS)
  assert.ok(inspection.is === 'archive')
  return inspection
}

test('an OVA tells its machine, and where in it the disk is', async () => {
  const disk = buildVmdk({ kind: 'streamOptimized' })
  const file = buildOva({ disks: [disk] })
  const inspection = await inspect(bufferSource(file), OPTIONS)
  assert.ok(inspection.is === 'archive')
  assert.deepEqual(inspection.machine, {
    name: 'Till 4',
    osName: 'Ubuntu Linux (64-bit)',
    firmware: 'uefi',
    cpuCount: 2,
    memoryBytes: 2 ** 31,
  })
  const [found] = inspection.disks
  assert.ok(found !== undefined && inspection.disks.length === 1)
  assert.deepEqual([found.format, found.variant, found.virtualBytes], ['vmdk', 'streamOptimized', 65536])
  const bytes = await slice(bufferSource(file), found.offset, found.lengthBytes).read(0, found.lengthBytes)
  assert.ok(bytes.equals(disk))
})

test('disks come in the order of controllers and places, not of the archive', async () => {
  const sizes = [128, 256, 384, 512]
  const disks = sizes.map((capacitySectors) => buildVmdk({ capacitySectors }))
  const order = async (changeOvf: (text: string) => string) =>
    (await archive({ disks, changeOvf })).disks.map(({ virtualBytes }) => virtualBytes / 512)
  assert.deepEqual(await order((text) => text), sizes)
  const turned = (text: string) =>
    text.replaceAll(/AddressOnParent>(\d+)</g, (_, place: string) => `AddressOnParent>${3 - Number(place)}<`)
  assert.deepEqual(await order(turned), [...sizes].reverse())
  // 10 is behind 9, and the disks of a second controller are behind those of the first.
  assert.deepEqual(
    await order((text) => text.replace('AddressOnParent>0<', 'AddressOnParent>10<')),
    [256, 384, 512, 128],
  )
  const second =
    '<Item><rasd:Address>1</rasd:Address><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>'
  const moved = (text: string) =>
    text
      .replace('<VirtualHardwareSection>', `<VirtualHardwareSection>${second}`)
      .replace('Parent>3<', 'Parent>4<')
  assert.deepEqual(await order(moved), [256, 384, 512, 128])
})

test('the ways in which tools write an OVA are all taken', async () => {
  await archive({ changeManifest: () => undefined })
  await archive({
    changeManifest: (text) => text.replaceAll('(', ' (').replaceAll(')=', ') =').replaceAll('\n', '\r\n'),
  })
  await archive({
    more: [
      { name: 'machine.nvram', bytes: Buffer.from('x') },
      { name: 'machine.cert', bytes: Buffer.from('x') },
    ],
  })
  await archive({ changeOvf: (text) => text.replaceAll('ovf:/disk/', '/disk/') })
  await archive({
    changeOvf: (text) =>
      text.replaceAll('http://schemas.dmtf.org/ovf/envelope/1', 'http://schemas.dmtf.org/ovf/envelope/2'),
  })
  await archive({
    changeOvf: (text) => text.replace('interfaces/', '').replace('#streamOptimized', '#sparse'),
  })
  const inUnits = (capacity: string, unit: string) => (text: string) =>
    text.replace(
      /ovf:capacity="\d+" ovf:capacityAllocationUnits="byte"/,
      `ovf:capacity="${capacity}" ovf:capacityAllocationUnits="${unit}"`,
    )
  await archive({ changeOvf: inUnits('64', 'byte * 2^10') })
  await archive({ changeOvf: inUnits('64', 'KiloBytes') })
  await archive({ changeOvf: inUnits('0', 'byte * 2^20') })
  await refused('size', () => archive({ changeOvf: inUnits('1', 'byte * 2^20') }))
})

test('firmware is told by VMware’s words and by VirtualBox’s', async () => {
  const firmware = async (entry: string) =>
    (await archive({ changeOvf: (text) => text.replace(/<vmw:Config[^>]*>/, entry) })).machine.firmware
  assert.equal(await firmware('<vmw:ExtraConfig vmw:key="firmware" vmw:value="bios"/>'), 'bios')
  assert.equal(await firmware('<Hardware><Firmware type="EFI"/></Hardware>'), 'uefi')
  assert.equal(await firmware(''), undefined)
})

test('what a description does not say of its machine is not known, and nothing in it can be shown that is no line', async () => {
  const { machine } = await archive({
    changeOvf: (text) =>
      text
        .replace('Till 4', `\u202e a\n\tb ${'c'.repeat(500)}`)
        .replace(/<OperatingSystemSection[\s\S]*<\/OperatingSystemSection>/, '')
        .replace('VirtualQuantity>2<', 'VirtualQuantity>many<')
        .replace('byte * 2^20', 'furlong'),
  })
  assert.equal(machine.name, `a b ${'c'.repeat(124)}`)
  assert.deepEqual([machine.osName, machine.cpuCount, machine.memoryBytes], [undefined, undefined, undefined])
})

test('second headers that say nothing of a file’s place are taken, and so are sizes in 64 bits', async () => {
  const mtime = { name: 'pax', bytes: Buffer.from('22 mtime=1700000000.5\n'), type: 'x' }
  await archive({ changeEntries: ([first, ...rest]) => (first === undefined ? [] : [mtime, first, ...rest]) })
  const wide = (header: Buffer) => {
    const size = Number.parseInt(header.toString('latin1', 124, 135), 8)
    header.fill(0, 124, 136)
    header.writeUInt8(0x80, 124)
    header.writeUInt32BE(size, 132)
  }
  await archive({ changeEntries: (entries) => entries.map((entry) => ({ ...entry, patch: wide })) })
})

test('a manifest of SHA-1 digests is checked as well', async () => {
  const disk = buildVmdk({ kind: 'streamOptimized' })
  const digest = (bytes: Buffer) => createHash('sha1').update(bytes).digest('hex')
  let ovf = ''
  const shape = (broken: string): OvaShape => ({
    disks: [disk],
    changeOvf: (text) => {
      ovf = text
      return text
    },
    changeManifest: () =>
      `SHA1(machine.ovf)= ${digest(Buffer.from(ovf))}\nSHA1(machine-disk1.vmdk)= ${digest(disk).replace(/^./, broken)}\n`,
  })
  const first = digest(disk).slice(0, 1)
  await archive(shape(first))
  await refused('checksum', () => archive(shape(first === '0' ? '1' : '0')))
})

test('an inspection that is given up ends with the reason of its signal', async () => {
  const signal = AbortSignal.abort(new Error('enough'))
  await assert.rejects(inspect(bufferSource(buildOva()), { ...OPTIONS, signal }), /enough/)
})

test('an empty archive is no OVA', async () => {
  await refused('archive', () =>
    inspect(bufferSource(buildTar([{ name: 'x.ova', bytes: Buffer.alloc(9) }])), OPTIONS),
  )
})

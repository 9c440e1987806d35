import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Fault } from './fault.ts'
import type { ImageLabel, MachineLabel, SnapshotLabel } from './label.ts'
import { parseLabel, writeLabel } from './label.ts'

const project = { id: 'org-main', name: 'default', isDefault: 1 }
const image = {
  ...{ is: 'image', id: 'i'.repeat(17), project, regionId: 'hk', kind: 'custom', origin: 'capture' },
  ...{ name: 'golden', description: '', tag: 'Default', osType: 'Linux', osName: 'Debian 12' },
  ...{ disks: [{ index: 0, sizeBytes: 4096, bus: 'virtio-scsi' }] },
  ...{ sourceMachineId: null, sourceImageId: null, consistency: 'filesystem', parent: 'ab'.repeat(32) },
  config: { firmware: 'uefi', machineType: 'q35', cpuCount: null, memoryBytes: 1024 },
  ...{ labels: '[{"key":"a","value":"b"}]', imported: '{"fileBytes":1}', dataBytes: null, createdAtMs: 1 },
} as unknown as ImageLabel
const snapshot = {
  ...{ is: 'snapshot', id: 's'.repeat(17), project, regionId: 'hk', machineId: 'm'.repeat(17) },
  ...{ machineName: 'm', diskId: 'd'.repeat(17), disk: { index: 1, sizeBytes: 4096, bus: 'virtio-blk' } },
  ...{ config: { firmware: 'bios', machineType: 'pc', cpuCount: 2, memoryBytes: 1024 }, osType: 'Windows' },
  ...{
    osName: '',
    name: 'before',
    description: '',
    creator: 'root',
    policyId: null,
    imageId: 'i'.repeat(17),
  },
  ...{ consistency: 'application', dataBytes: 512, createdAtMs: 1 },
} as unknown as SnapshotLabel
const disk = { id: 'd'.repeat(17), index: 0, sizeBytes: 4096, bus: 'virtio-blk', category: '' }
const base = { digest: 'ab'.repeat(32), index: 0 }
const machine = {
  ...{ is: 'machine', id: 'm'.repeat(17), project, regionId: 'hk', zone: 'hk-01', name: 'm', tag: '' },
  ...{ labels: '[]', details: '{"half":0.5}', cpuCount: 1, memoryBytes: 1024, typeName: '', imageId: '' },
  ...{ firmware: 'uefi', machineType: 'q35' },
  ...{ imageName: '', osType: 'Windows', osName: '', createdAtMs: 1 },
  disks: [
    { ...disk, base },
    { ...disk, base: undefined },
  ],
} as unknown as MachineLabel

test('labels come back as they were written', () => {
  for (const label of [image, snapshot, machine]) {
    assert.deepEqual(parseLabel(JSON.parse(JSON.stringify(writeLabel(label)))), label)
  }
})

test('labels of before a field was kept say what was true of all then, or nothing', () => {
  const oldDisk = { index: 0, sizeBytes: 4096 }
  const { config: _config, consistency: _consistency, parent: _parent, ...some } = image
  const { labels: _labels, imported: _imported, ...oldImage } = some
  const told = parseLabel({ ...oldImage, disks: [oldDisk] })
  assert.deepEqual(told, {
    ...image,
    ...{ disks: [{ ...oldDisk, bus: 'virtio-blk' }], config: null, consistency: null, parent: null },
    ...{ labels: null, imported: null },
  })
  const { firmware: _firmware, machineType: _type, ...oldMachine } = machine
  const { bus: _bus, ...withoutBus } = { ...disk, base: undefined }
  const before = parseLabel({ ...oldMachine, disks: [withoutBus] })
  assert.deepEqual(before, {
    ...{ ...machine, firmware: 'bios', machineType: 'pc' },
    disks: [{ ...disk, base: undefined }],
  })
})

test('a label is JSON of whole numbers and well-formed text', () => {
  const label = writeLabel({ ...image, name: 'half \ud83d' })
  assert.equal(label.name, 'half \ufffd')
  assert.ok(!('base' in ((writeLabel(machine).disks as object[])[1] ?? {})))
})

test('what is no label of this version is refused by the field that is wrong', () => {
  const refused = (value: unknown, field: string) =>
    assert.throws(
      () => parseLabel(value),
      (error: Fault) => error.kind === 'corrupt' && error.message.includes(`(${field})`),
    )
  refused(null, 'no object')
  refused([], 'no object')
  refused({ is: 'bundle' }, 'is')
  const objects = ['project', 'config', 'disk']
  for (const [label, wrong] of [[image, 1.5] as const, [snapshot, 1.5] as const, [machine, -1] as const]) {
    for (const field of Object.keys(label)) {
      if (field === 'is') continue
      refused({ ...label, [field]: wrong }, objects.includes(field) ? 'no object' : field)
    }
  }
  refused({ ...image, disks: [{ index: 0, sizeBytes: 1, bus: 'ide' }] }, 'bus')
  refused({ ...snapshot, config: { ...snapshot.config, firmware: 'coreboot' } }, 'firmware')
  refused({ ...machine, details: '{' }, 'details')
  refused({ ...machine, disks: [{ ...disk, base: { digest: 'x', index: 0 } }] }, 'digest')
})

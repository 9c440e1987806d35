import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Fault } from './fault.ts'
import type { ImageLabel, MachineLabel } from './label.ts'
import { parseLabel, writeLabel } from './label.ts'

const project = { id: 'org-main', name: 'default', isDefault: 1 }
const image = {
  ...{ is: 'image', id: 'i'.repeat(17), project, regionId: 'hk', kind: 'custom', origin: 'capture' },
  ...{ name: 'golden', description: '', tag: 'Default', osType: 'Linux', osName: 'Debian 12' },
  ...{ disks: [{ index: 0, sizeBytes: 4096 }], sourceMachineId: null, sourceImageId: null },
  ...{ dataBytes: null, createdAtMs: 1 },
} as unknown as ImageLabel
const disk = { id: 'd'.repeat(17), index: 0, sizeBytes: 4096, category: '' }
const base = { digest: 'ab'.repeat(32), index: 0 }
const machine = {
  ...{ is: 'machine', id: 'm'.repeat(17), project, regionId: 'hk', zone: 'hk-01', name: 'm', tag: '' },
  ...{ labels: '[]', details: '{"half":0.5}', cpuCount: 1, memoryBytes: 1024, typeName: '', imageId: '' },
  ...{ imageName: '', osType: 'Windows', osName: '', createdAtMs: 1 },
  disks: [
    { ...disk, base },
    { ...disk, base: undefined },
  ],
} as unknown as MachineLabel

test('labels come back as they were written', () => {
  for (const label of [image, machine]) {
    assert.deepEqual(parseLabel(JSON.parse(JSON.stringify(writeLabel(label)))), label)
  }
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
  refused({ is: 'snapshot' }, 'is')
  for (const field of Object.keys(image)) {
    if (field !== 'is') refused({ ...image, [field]: 1.5 }, field === 'project' ? 'no object' : field)
  }
  for (const field of Object.keys(machine)) {
    if (field !== 'is') refused({ ...machine, [field]: -1 }, field === 'project' ? 'no object' : field)
  }
  refused({ ...machine, details: '{' }, 'details')
  refused({ ...machine, disks: [{ ...disk, base: { digest: 'x', index: 0 } }] }, 'digest')
})

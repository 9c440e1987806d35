import assert from 'node:assert/strict'
import { test } from 'node:test'
import { examineHost } from '../doctor.ts'

test('doctor says of everything what it is for or what to do, and finds what the tests themselves run', async () => {
  const findings = await examineHost()
  for (const { name, detail } of findings) assert(name !== '' && detail !== '', name)
  const isThere = (name: string) => findings.find((one) => one.name.includes(name))?.isThere
  for (const name of ['qemu-system-x86_64', 'qemu-img', 'qemu-nbd', 'xz', 'no files but its own']) {
    assert.equal(isThere(name), true, name)
  }
  assert.deepEqual(new Set(findings.map(({ area }) => area)), new Set(['machines', 'imports', 'cleaning']))
})

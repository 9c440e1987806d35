import assert from 'node:assert/strict'
import type { ExportFormat, FileLayout, MakeLayout } from './contract.ts'
import { qcow2Layout } from './qcow2.ts'
import { rawLayout } from './raw.ts'
import { vhdxLayout } from './vhdx.ts'
import { vmdkLayout } from './vmdk.ts'

const MAKERS: Readonly<Record<ExportFormat, MakeLayout>> = {
  raw: rawLayout,
  qcow2: qcow2Layout,
  vmdk: vmdkLayout,
  vhdx: vhdxLayout,
}

/** The disk as a file of the format. Throws Fault 'invalid' 'file' reason 'too-large', telling which format can. */
export function makeLayout(format: ExportFormat, disk: Parameters<MakeLayout>[0]): FileLayout {
  assert(Number.isSafeInteger(disk.sizeBytes) && disk.sizeBytes > 0 && disk.sizeBytes % 512 === 0)
  assert(disk.seed.length === 16)
  let at = 0
  for (const { offset, lengthBytes } of disk.extents) {
    assert(offset === at && lengthBytes > 0, 'extents rise without gaps')
    at += lengthBytes
  }
  assert(at === disk.sizeBytes, 'extents are of the whole disk')
  return MAKERS[format](disk)
}

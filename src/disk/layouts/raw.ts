import type { MakeLayout } from './contract.ts'
import { SegmentList } from './segment-list.ts'

/** The disk's bytes as they are, with what is known to be zero told apart. */
export const rawLayout: MakeLayout = ({ extents }) => {
  const file = new SegmentList()
  for (const { offset, lengthBytes, holds } of extents) {
    if (holds === 'zero') file.addZeroes(lengthBytes)
    else file.addDisk(offset, lengthBytes)
  }
  return file.layout('raw')
}

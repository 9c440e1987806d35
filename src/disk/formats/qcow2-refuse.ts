import { refuseFile } from './contract.ts'

const AGAIN =
  "Look at it where it was made ('qemu-img check'), convert it afresh (qemu-img convert -O qcow2 OLD NEW) and bring in the new file."

/** `what`: a sentence of ours without a full stop, never bytes of the file. */
export function refuseTables(what: string): Error {
  return refuseFile('tables', `${what}: the qcow2 file is damaged, or made to deceive. ${AGAIN}`)
}

export function refuseCorrupt(what: string): Error {
  return refuseFile('corrupt', `${what}. ${AGAIN}`)
}

export function refuseFeature(what: string): Error {
  return refuseFile(
    'feature-bits',
    `The qcow2 file uses ${what}, which this version of Calotype does not know. ` +
      'Convert it without: qemu-img convert -O qcow2 OLD NEW.',
  )
}

export function refuseTruncated(what: string): Error {
  return refuseFile(
    'truncated',
    `${what} behind the end of the qcow2 file: the file is cut, or damaged. Send it again, whole, with a checksum.`,
  )
}

export function refuseBacking(): Error {
  return refuseFile(
    'backing-file',
    'The qcow2 file is only the difference to another file (a backing file), which is never opened. ' +
      'Flatten it first: qemu-img convert -O qcow2 OLD NEW.',
  )
}

export function refuseDataFile(): Error {
  return refuseFile(
    'data-file',
    'The qcow2 file keeps its data in another file, which is never opened. ' +
      'Put them into one first: qemu-img convert -O qcow2 OLD NEW.',
  )
}

export function refuseEncrypted(): Error {
  return refuseFile(
    'encrypted',
    'The qcow2 file is encrypted, and no key comes with it. Decrypt it first: qemu-img convert with its secret, to a new file.',
  )
}

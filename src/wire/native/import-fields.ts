import type { ImportWish } from '../../app/transfer-contract.ts'
import { DECLARABLE_FORMATS } from '../../disk/formats/contract.ts'
import { Fault } from '../../image/fault.ts'
import type { RegionId } from '../../image/ids.ts'
import { CHECKSUM_ALGORITHMS, type Checksum } from '../../image/imported.ts'
import { type Field, oneOf, optional, type Parsed, text, withDefault } from './fields.ts'
import { place } from './routes/common.ts'

const DIGITS: Readonly<Record<Checksum['algorithm'], number>> = { sha256: 64, sha512: 128, sha1: 40, md5: 32 }
const TAKES = `an object of algorithm (${CHECKSUM_ALGORITHMS.join(', ')}) and hex, or text like sha256:HEX`

function refuse(name: string): never {
  throw new Fault('invalid', `'${name}' takes ${TAKES}. Copy the digits as the tool printed them.`, {
    field: name,
  })
}

/** Of a whole file as it is sent: as an object, or as text, which is what a query can hold. */
export const checksum: Field<Checksum> = {
  takes: TAKES,
  isOptional: false,
  isList: false,
  parse(value, name) {
    let given = value
    if (typeof value === 'string') {
      const cut = value.indexOf(':')
      given = { algorithm: value.slice(0, cut), hex: value.slice(cut + 1) }
    }
    if (typeof given !== 'object' || given === null || Array.isArray(given)) return refuse(name)
    const { algorithm: word, hex, ...rest } = given as Record<string, unknown>
    const algorithm = CHECKSUM_ALGORITHMS.find((known) => known === word)
    if (algorithm === undefined || typeof hex !== 'string' || Object.keys(rest).length > 0)
      return refuse(name)
    if (hex.length !== DIGITS[algorithm] || !/^[0-9a-f]+$/i.test(hex)) return refuse(name)
    return { algorithm, hex: hex.toLowerCase() }
  },
}

const SIGNER = 'the 64 hex digits of an Ed25519 key'
const signer: Field<string> = {
  takes: SIGNER,
  isOptional: false,
  isList: false,
  parse(value, name) {
    if (typeof value === 'string' && /^[0-9a-f]{64}$/i.test(value)) return value.toLowerCase()
    throw new Fault('invalid', `'${name}' takes ${SIGNER}.`, { field: name })
  },
}

/** What may be said of an image that is brought in as a file, whichever way the file comes. */
export const importFields = {
  ...place,
  name: text(256, { lengthMin: 1, subject: 'name' }),
  description: optional(text(1024, { subject: 'description' })),
  tag: optional(text(128)),
  kind: withDefault(oneOf('base', 'custom'), 'custom'),
  osType: optional(oneOf('Linux', 'Windows')),
  osName: optional(text(128)),
  firmware: optional(oneOf('bios', 'uefi')),
  bus: optional(oneOf('virtio-blk', 'virtio-scsi')),
  format: optional(oneOf(...DECLARABLE_FORMATS)),
  checksum: optional(checksum),
  signer: optional(signer),
}

export function importWish(given: Parsed<typeof importFields>, regionId: RegionId): ImportWish {
  const { region: _region, project: projectId, ...rest } = given
  return { regionId, projectId, ...rest }
}

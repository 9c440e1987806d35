import { Fault } from '../image/fault.ts'
import type { Digest, DomainId, PackId, PageId } from '../image/ids.ts'
import { type ObjectName, parseObjectName } from '../objects/names.ts'

/** The domain that every project may look up: base images live here. */
export const PUBLIC_DOMAIN = 'public' as DomainId

/** Begins the names of domains whose keys came from another installation, in a bundle. */
export const FOREIGN_PREFIX = 'foreign-'

/** 'public', a project id, or a foreign domain; undefined for anything else. Source: docs/format.md, "Domain". */
export function findDomainId(text: string): DomainId | undefined {
  return /^(public|org-[0-9a-z]{1,32}|foreign-[0-9a-f]{32})$/.test(text) ? (text as DomainId) : undefined
}

/** As `findDomainId`; throws Fault 'invalid'. */
export function parseDomainId(text: string): DomainId {
  const domain = findDomainId(text)
  if (domain === undefined) {
    throw new Fault('invalid', `'${text.slice(0, 80)}' is no dedup domain.`, { subject: 'store' })
  }
  return domain
}

export const packName = (id: PackId): ObjectName => parseObjectName(`packs/${id.slice(0, 2)}/${id}`)
export const pageName = (id: PageId): ObjectName => parseObjectName(`pages/${id.slice(0, 2)}/${id}`)
export const imageName = (id: Digest): ObjectName => parseObjectName(`images/${id}`)
export const signatureName = (id: Digest): ObjectName => parseObjectName(`signatures/${id}`)
export const keyPrefix = (id: DomainId): string => `keys/${id}/`
/** `keyId` names the region key that wraps the domain's keys. */
export const keyName = (id: DomainId, keyId: string): ObjectName => parseObjectName(keyPrefix(id) + keyId)

/** `holder` is an id of the catalog or of a task; of two versions the higher counts. `mark` is from the content. */
export const refName = (holder: string, version: number, mark: string): ObjectName =>
  parseObjectName(`refs/${holder}/${version}-${mark}`)

/** The hash an object is named by: the last part of a pack's, page's or image's name. */
export function hashOfName(name: ObjectName): string {
  return name.slice(name.lastIndexOf('/') + 1)
}

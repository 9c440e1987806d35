import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DomainId, PackId } from '../../src/image/ids.ts'
import { openDirectoryObjects } from '../../src/objects/directory.ts'
import { getDomainSecrets } from '../../src/store/domain.ts'
import { LocalWrapper } from '../../src/store/keys.ts'
import { hashOfName, packName } from '../../src/store/names.ts'
import { OpenDomain } from '../../src/store/open-domain.ts'
import { readPackContent } from '../../src/store/pack.ts'
import { openChunk } from '../../src/store/read-chunk.ts'
import { type FoundTokens, TokenSearch } from '../disks/search.ts'
import type { Tokens } from '../disks/tokens.ts'

/** What is in the chunks of all packs of a region, decrypted and unpacked, whether or not an image needs them. */
export async function searchStore(data: string, region: string, tokens: Tokens) {
  const objects = await openDirectoryObjects({
    folder: join(data, 'regions', region, 'objects'),
    clean: false,
  })
  const key = Buffer.from((await readFile(join(data, 'keys', `${region}.key`), 'utf8')).trim(), 'hex')
  const wrapper = new LocalWrapper(new Uint8Array(key))
  const domains = new Map<DomainId, OpenDomain>()
  const domainOf = async (id: DomainId) => {
    const domain = domains.get(id) ?? new OpenDomain(id, await getDomainSecrets(objects, id, wrapper))
    domains.set(id, domain)
    return domain
  }
  const found: { readonly chunk: string; readonly found: FoundTokens }[] = []
  let chunkCount = 0
  for await (const name of objects.list('packs/')) {
    const pack = hashOfName(name) as PackId
    const { domain: id, entries } = await readPackContent(objects, pack)
    const domain = await domainOf(id)
    for (const entry of entries) {
      const stored = await objects.get(packName(pack), entry.offset, entry.storedBytes)
      const plain = await openChunk(stored, entry, entry.id, domain)
      assert(plain !== undefined, 'a chunk can be read')
      const search = new TokenSearch(tokens)
      search.add(plain)
      found.push({ chunk: entry.id.toString('hex'), found: search.end() })
      chunkCount++
    }
  }
  return { chunkCount, found }
}

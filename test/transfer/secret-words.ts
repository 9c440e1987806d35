import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** A word that only a secret holds; it stands in addresses and headers as it is. */
export const newSecret = (what: string): string => `${what}Secret${randomBytes(12).toString('hex')}`

/** Which of these words are in a text, plain, as hex, or in base64 wherever they begin in it. */
export function wordsIn(text: string, words: readonly string[]): string[] {
  return words.filter((word) => spellings(word).some((one) => text.includes(one)))
}

/** 'WORD in FILE' for every word in a file below a folder, whatever kind of file it is. */
export async function wordsInFolder(folder: string, words: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const text = (await readFile(path)).toString('latin1')
    found.push(...wordsIn(text, words).map((word) => `${word} in ${path}`))
  }
  return found
}

/** 'WORD in TABLE' for every word in a row of the catalog of a stopped server. */
export function wordsInCatalog(data: string, words: readonly string[]): string[] {
  const database = new DatabaseSync(join(data, 'catalog.db'), { readOnly: true })
  try {
    const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all()
    return tables.flatMap(({ name }) => {
      const values = database.prepare(`SELECT * FROM "${name}"`).all().flatMap(Object.values)
      const texts = values.map((value) =>
        value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value),
      )
      return wordsIn(texts.join('\n'), words).map((word) => `${word} in ${name}`)
    })
  } finally {
    database.close()
  }
}

function spellings(word: string): string[] {
  const bytes = Buffer.from(word)
  // Of three places in base64 where a word may begin, what no neighbour changes.
  const inBase64 = [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64url')
      .slice(shift === 0 ? 0 : shift + 1)
    return text.slice(0, -2)
  })
  return [
    word,
    word.toLowerCase(),
    bytes.toString('hex'),
    Buffer.from(word, 'utf16le').toString('latin1'),
    ...inBase64,
  ]
}

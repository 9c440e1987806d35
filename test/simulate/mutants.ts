import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** A deliberate fault: a text of one module of the store, and what stands in its place. */
interface Edit {
  readonly file: string
  readonly from: string
  readonly to: string
}

export interface Mutant {
  readonly name: string
  readonly edits: readonly Edit[]
}

const STORE = join(import.meta.dirname, '../../src/store')
const BIND_ASSERTION: Edit = {
  file: 'journal.ts',
  from: "this.#statements.isHeld.get(sessionId, number) !== undefined,\n            'a",
  to: "true, 'a",
}

/** Each is a way in which the argument of docs/store.md could be broken; the simulation has to find all of them. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: 'a pin always succeeds and is not written',
    edits: [
      {
        file: 'journal.ts',
        from: 'this.#statements.addPin.run(sessionId, number)',
        to: 'if (sessionId !== "") return true',
      },
      BIND_ASSERTION,
    ],
  },
  {
    name: 'a collection condemns what sessions hold',
    edits: [
      {
        file: 'gc-rows.ts',
        from: "const NOT_HELD = 'NOT EXISTS (SELECT 1 FROM sessionObject s WHERE s.object = number)'",
        to: "const NOT_HELD = '1'",
      },
    ],
  },
  {
    name: 'a collection condemns images that refs name',
    edits: [
      {
        file: 'gc-rows.ts',
        from: "const NOT_NAMED = 'NOT EXISTS (SELECT 1 FROM ref r WHERE r.digest = substr(object.name, 8))'",
        to: "const NOT_NAMED = '1'",
      },
    ],
  },
  {
    name: 'nothing is on the disk before the object goes',
    edits: [{ file: 'gc.ts', from: 'changes === 1),\n        true,', to: 'changes === 1),\n        false,' }],
  },
  {
    name: 'a commit is not on the disk when it returns',
    edits: [
      {
        file: 'journal.ts',
        from: 'this.#statements.dropSession.run(sessionId)\n    }, true)\n  }\n\n  listRefs',
        to: 'this.#statements.dropSession.run(sessionId)\n    }, false)\n  }\n\n  listRefs',
      },
    ],
  },
  {
    name: 'an image is committed without binds',
    edits: [{ file: 'journal.ts', from: 'this.#statements.addBind.run(imageNumber, number)', to: '' }],
  },
  {
    name: 'a writer does not notice that its session has ended',
    edits: [
      {
        file: 'journal.ts',
        from: "if (row?.state !== 'open') throw undone(id)\n    this.#statements.touch.run(this.#clock(), id)\n    return row",
        to: "return (row ?? { domain: '', state: 'open' }) as { domain: string; state: string }",
      },
      BIND_ASSERTION,
    ],
  },
  {
    name: 'a writer takes over a condemned object',
    edits: [
      {
        file: 'journal.ts',
        from: ' || row.state === CONDEMNED) return undefined',
        to: ') return undefined',
      },
    ],
  },
  {
    name: 'a repack overlooks images that came to need the pack',
    edits: [
      {
        file: 'rewrite.ts',
        from: 'if (now.length !== life.images.length || now.some((image, i) => image !== life.images[i])) {',
        to: 'if (now === undefined) {',
      },
    ],
  },
  {
    name: 'a repack moves a pack that a writer relies on',
    edits: [
      {
        file: 'rewrite.ts',
        from: 'if (isHeld.get(life.number) !== undefined)',
        to: 'if (isHeld === undefined)',
      },
    ],
  },
  {
    name: 'two may remove one object at the same time',
    edits: [{ file: 'journal.ts', from: "!== undefined) return 'busy'", to: "=== null) return 'busy'" }],
  },
  {
    name: 'an undo removes what other sessions hold',
    edits: [
      {
        file: 'journal.ts',
        from: 'OR EXISTS (SELECT 1 FROM sessionObject h WHERE h.object = sessionObject.object AND h.session <> ?1))`',
        to: ')`',
      },
    ],
  },
  {
    name: 'chunks of condemned packs are found',
    edits: [
      {
        file: 'places.ts',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a piece of source.
        from: 'const visible = `(o.state = ${COMMITTED} OR',
        to: 'const visible = `(o.state IN (1, 3) OR',
      },
    ],
  },
  {
    name: 'a dropped ref leaves its object',
    edits: [
      {
        file: 'region.ts',
        from: 'for (const object of this.journal.dropRef(holder)) await this.erase(object, signal)',
        to: 'this.journal.dropRef(holder)',
      },
    ],
  },
  {
    name: 'a writer puts an object while it is being removed',
    edits: [{ file: 'journal.ts', from: 'if (row.state === REMOVING || row.state', to: 'if (row.state' }],
  },
]

/** Loads the store with the faults in it, from here on in this process. Throws where a text is not there any more. */
export function install({ name, edits }: Mutant): void {
  const sources = new Map<string, string>()
  for (const { file, from, to } of edits) {
    const path = join(STORE, file)
    const url = pathToFileURL(path).href
    const source = sources.get(url) ?? readFileSync(path, 'utf8')
    assert.equal(source.split(from).length, 2, `'${name}' finds its text once in ${file}`)
    sources.set(
      url,
      source.replace(from, () => to),
    )
  }
  registerHooks({
    load(url, context, nextLoad) {
      const source = sources.get(url)
      if (source === undefined) return nextLoad(url, context)
      return { format: 'module-typescript', source, shortCircuit: true }
    },
  })
}

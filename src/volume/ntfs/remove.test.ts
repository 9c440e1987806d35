import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Edit, Medium } from '../contract.ts'
import { randomFrom, tool } from '../tools.fixture.ts'
import { openNtfs } from './open.ts'
import { NtfsImage } from './scrub.fixture.ts'

const LONG = 'ü'.repeat(250)
const REMOVED = ['alice', 'Bob', '李雷', 'zoë', 'user.with.dots']
const OPTIONS = 'streams_interface=windows,special_files=wsl'

/** By path: a hash of the content, or that it is a directory. */
function listTree(root: string): Map<string, string> {
  const found = new Map<string, string>()
  const stack = ['']
  for (let folder = stack.pop(); folder !== undefined; folder = stack.pop()) {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        stack.push(path)
        found.set(path, 'directory')
      } else if (entry.isFile()) {
        found.set(
          path,
          createHash('sha256')
            .update(readFileSync(join(root, path)))
            .digest('hex'),
        )
      } else found.set(path, 'special')
    }
  }
  return found
}

function fill(root: string, name: string, random: () => number): void {
  const mark = REMOVED.includes(name) ? 'SECRET' : 'KEPT'
  const home = join(root, 'Users', name)
  mkdirSync(join(home, 'Documents', 'deep'), { recursive: true })
  writeFileSync(join(home, 'empty.txt'), '')
  writeFileSync(join(home, 'resident.txt'), `${mark}-${name}-resident`)
  writeFileSync(join(home, 'resident.txt:stream'), `${mark}-${name}-stream`)
  writeFileSync(
    join(home, 'large.bin'),
    Buffer.alloc(300_000 + Math.floor(random() * 500_000), `${mark}-${name}-`),
  )
  writeFileSync(join(home, `${LONG}.txt`), `${mark}-${name}-long`)
  writeFileSync(join(home, 'sparse.bin'), `${mark}-start`)
  truncateSync(join(home, 'sparse.bin'), 3_000_000)
  appendFileSync(join(home, 'sparse.bin'), `${mark}-end`)
  symlinkSync('../Public', join(home, 'Documents', 'public'))
  let path = join(home, 'Documents', 'deep')
  for (let depth = 0; depth < 20; depth += 1) path = join(path, `level-${depth}`)
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, 'bottom.txt'), `${mark}-${name}-bottom`)
}

function populate(root: string, random: () => number, manyCount: number): void {
  mkdirSync(join(root, 'Windows', 'System32'), { recursive: true })
  mkdirSync(join(root, 'Users'))
  for (const name of ['Administrator', 'Public', ...REMOVED]) fill(root, name, random)
  mkdirSync(join(root, 'Users', 'alice', 'many'))
  mkdirSync(join(root, 'Users', 'Public', 'many'))
  for (let index = 0; index < manyCount; index += 1) {
    writeFileSync(join(root, 'Users', 'alice', 'many', `SECRET-file-number-${index}.txt`), `SECRET ${index}`)
    if (index % 3 === 0)
      writeFileSync(join(root, 'Users', 'Public', 'many', `kept-${index}.txt`), `kept ${index}`)
  }
  // Names of removed and of kept users side by side, in an index of several levels.
  for (let index = 0; index < 600; index += 1)
    mkdirSync(join(root, 'Users', `user-${LONG.slice(0, index % 200)}-${index}`))
  const shared = join(root, 'Users', 'Public', 'shared.bin')
  writeFileSync(shared, Buffer.alloc(200_000, 'shared'))
  linkSync(shared, join(root, 'Users', 'alice', 'SECRET-link.bin'))
  // Many names: some of them stand in extension records.
  for (let index = 0; index < 40; index += 1) {
    const folder = index % 2 === 0 ? 'alice' : 'Public'
    linkSync(
      shared,
      join(root, 'Users', folder, `${folder === 'alice' ? 'SECRET' : 'kept'}-${LONG.slice(0, 150)}-${index}`),
    )
  }
  linkSync(join(root, 'Users', 'Bob', 'large.bin'), join(root, 'Users', 'zoë', 'both-go.bin'))
}

const isRemoved = (path: string) => {
  const [top, user] = path.split('/')
  return top === 'Users' && user !== undefined && (REMOVED.includes(user) || /^user-.*[02468]$/.test(user))
}

async function openFiles(medium: Medium) {
  return (await openNtfs(medium)).files
}

for (const [clusterBytes, sectorBytes, sizeMiB, manyCount, freshCount] of [
  [512, 512, 40, 300, 500],
  [4096, 512, 96, 2100, 3000],
  [65_536, 512, 160, 300, 300],
  [4096, 4096, 96, 300, 300],
] as const) {
  test(`removal leaves the rest whole: clusters of ${clusterBytes}, sectors of ${sectorBytes}`, async () => {
    const seed = 20_261_122 + clusterBytes
    console.log(`seed ${seed}`)
    const random = randomFrom(seed)
    await using image = await NtfsImage.create(sizeMiB * 1024 * 1024, [
      '-c',
      String(clusterBytes),
      '-s',
      String(sectorBytes),
      '-L',
      'Größe',
    ])
    let before = new Map<string, string>()
    await image.mounted(async (root) => {
      populate(root, random, manyCount)
      before = listTree(root)
    }, OPTIONS)
    const edits: Edit[] = [
      ...new Set([...before.keys()].filter(isRemoved).map((path) => path.split('/')[1] ?? '')),
    ].map((user) => ({ is: 'remove', path: ['Users', user] }))
    assert.ok(edits.length > 300)
    let freeBytes = 0
    await image.withMedium(async (medium) => {
      const volume = await openNtfs(medium)
      freeBytes = volume.freeBytes
      assert.equal(volume.files.label, 'Größe')
      const many = await volume.files.measure(['USERS', 'ALICE', 'many'])
      assert.deepEqual([many.fileCount, many.directoryCount], [manyCount, 1])
      await volume.apply(edits)
    })
    await image.withMedium(async (medium) => {
      const volume = await openNtfs(medium)
      assert.ok(volume.freeBytes > freeBytes)
      const users = (await volume.files.list(['Users'])) ?? []
      assert.equal(users.length, 302)
      assert.equal(await volume.files.stat(['Users', 'alice']), undefined)
      assert.equal((await volume.files.stat(['Users', 'Public', 'shared.bin']))?.linkCount, 21)
      // A second time there is nothing to do.
      await volume.apply([])
    })
    await image.scrub()
    const bytes = await image.bytes()
    assert.equal(bytes.indexOf('SECRET'), -1)
    assert.equal(bytes.indexOf(Buffer.from('SECRET', 'utf16le')), -1)
    image.check()
    await tool('ntfsresize', ['--info', '--force', image.path])
    const kept = new Map([...before].filter(([path]) => !isRemoved(path)))
    await image.mounted(async (root) => {
      assert.deepEqual(listTree(root), kept)
      assert.equal(statSync(join(root, 'Users', 'Public', 'shared.bin')).nlink, 21)
      mkdirSync(join(root, 'fresh'))
      for (let index = 0; index < freshCount; index += 1) {
        const folder = index % 2 === 0 ? 'fresh' : 'Users'
        const path = join(folder, `fresh-${LONG.slice(0, index % 60)}-${index}`)
        const content = `fresh content ${index} `.repeat(1 + (index % 100))
        writeFileSync(join(root, path), content)
        kept.set(path, createHash('sha256').update(content).digest('hex'))
      }
      kept.set('fresh', 'directory')
      assert.deepEqual(listTree(root), kept)
    }, OPTIONS)
    image.check()
    await image.mounted(async (root) => assert.deepEqual(listTree(root), kept), OPTIONS)
    await image.withMedium(async (medium) => {
      const files = await openFiles(medium)
      for (const [path, what] of kept) {
        if (what === 'special') assert.equal((await files.stat(path.split('/')))?.kind, 'link')
        else if (what === 'directory') assert.equal((await files.stat(path.split('/')))?.kind, 'directory')
        else {
          const bytes = await files.read(path.split('/'), 10_000_000)
          assert.ok(bytes)
          assert.equal(createHash('sha256').update(bytes).digest('hex'), what, path)
        }
      }
      assert.equal(await files.readLink(['Users', 'Public', 'Documents', 'public']), '../Public')
    })
    // It checks that every cluster in use belongs to one file.
    await tool('ntfsresize', ['--info', '--force', image.path])
  })
}

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { bareEnvironment } from '../isolation/isolation.ts'
import { findExaminerIsolation, nodeArguments, prefixWith } from './isolation.ts'

const PRISONER = join(import.meta.dirname, 'prisoner.fixture.ts')

test('an examiner may not read, write, connect, listen or start anything', async () => {
  const isolation = await findExaminerIsolation(PRISONER)
  assert.ok(isolation.isWorking)
  const words = [...prefixWith(isolation, 60), process.execPath, ...nodeArguments(PRISONER, 128), 'mark', '1']
  const [command, ...rest] = words
  const told = await new Promise<string>((resolve, reject) => {
    execFile(command ?? '', rest, { env: bareEnvironment(), cwd: '/' }, (error, stdout) => {
      if (error) reject(error)
      else resolve(stdout)
    })
  })
  const { denied, allowed, environment, uid, limits } = JSON.parse(told) as {
    denied: string[]
    allowed: string[]
    environment: string[]
    uid: number
    limits: string
  }
  assert.deepEqual(allowed, [])
  assert.deepEqual(denied.sort(), ['connect', 'eval', 'list', 'listen', 'read', 'spawn', 'worker', 'write'])
  assert.deepEqual(environment, ['PATH'])
  const facts = new Map(isolation.facts.map(({ name, isThere }) => [name, isThere]))
  if (process.getuid?.() === 0 && facts.get('another user')) assert.notEqual(uid, 0)
  assert.equal(limits, 'unseen')
})

test('no two have the same user', async () => {
  const isolation = await findExaminerIsolation(PRISONER)
  const usersOf = () => prefixWith(isolation, 1.5).filter((word) => word.includes('id='))
  const isAlone = isolation.facts.find(({ name }) => name === 'a user of its own')?.isThere
  if (isAlone) assert.notDeepEqual(usersOf(), usersOf())
  const isLimited = prefixWith(isolation, 1.5).includes('--cpu=2:7')
  assert.equal(isLimited, isolation.prefix[0] === 'prlimit')
})

test('a program that fails when it is tried is not taken for a working one', async () => {
  const { isWorking, facts } = await findExaminerIsolation(join(import.meta.dirname, 'nothing-here.ts'))
  assert.equal(isWorking, false)
  assert.ok(facts.every(({ detail }) => detail !== ''))
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse, path, refuses, region } from './settings.fixture.ts'

test('peers: who they are, what we read of them and they of us', () => {
  const mark = 'AB:'.repeat(31)
  const yaml = `peers:
  far: {fingerprint: "${mark}AB", url: "https://far.example:8371", projects: [org-one], regions: [hk]}
  near: {fingerprint: ${'cd'.repeat(32)}, projects: all}
`
  const { regions: _regions, peers } = parse({
    yaml: `${yaml}${region('name: x\nzones: [a]\ncopyBytesPerSecond: 1000000')}`,
  })
  assert.equal(_regions[0]?.copyBytesPerSecond, 1_000_000)
  assert.deepEqual(peers, [
    {
      name: 'far',
      fingerprint: 'ab'.repeat(32),
      url: 'https://far.example:8371',
      projects: ['org-one'],
      regions: ['hk'],
    },
    { name: 'near', fingerprint: 'cd'.repeat(32), url: undefined, projects: 'all', regions: 'all' },
  ])
  const cases: [string, string, string][] = [
    ['peers: [far]', 'peers', 'takes a map of name'],
    ['peers: {Far: {}}', 'peers', 'takes names of up to 32'],
    ['peers: {far: {url: "https://a"}}', 'peers.far.fingerprint', 'takes 64 hex digits'],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}, url: "http://a"}}`,
      'peers.far.url',
      'takes https://HOST',
    ],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}, url: "https://a/b"}}`,
      'peers.far.url',
      'takes https://',
    ],
    [`peers: {far: {fingerprint: ${'1a'.repeat(32)}, project: all}}`, 'peers.far.project', "mean 'projects'"],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}, projects: x}}`,
      'peers.far.projects',
      'takes all, or a list',
    ],
    [
      `peers: {far: {fingerprint: ${'1a'.repeat(32)}}, near: {fingerprint: ${'1a'.repeat(32)}}}`,
      'peers.near',
      'the same fingerprint',
    ],
  ]
  for (const [text, field, words] of cases) refuses({ yaml: text }, field, path, words)
})

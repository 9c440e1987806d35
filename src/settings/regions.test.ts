import assert from 'node:assert/strict'
import { test } from 'node:test'
import { folder, parse, path, refuses, region } from './settings.fixture.ts'

test('regions of your own replace the default ones', () => {
  const yaml =
    'regions:\n  office: {name: The office, zones: [office-1], objects: objects}\n  attic:\n    name: {zh: 阁楼, en: Attic}\n    zones: [attic-1, attic-2]\n'
  const settings = parse({ yaml })
  assert.deepEqual(settings.regions, [
    {
      id: 'office',
      localName: { zh: 'The office', en: 'The office' },
      zones: ['office-1'],
      objects: folder('/etc/calotype/objects'),
    },
    {
      id: 'attic',
      localName: { zh: '阁楼', en: 'Attic' },
      zones: ['attic-1', 'attic-2'],
      objects: folder('/data/regions/attic/objects'),
    },
  ])
  assert.equal(settings.defaultRegion, 'office')
  assert.equal(parse({ yaml: `${yaml}defaultRegion: attic` }).defaultRegion, 'attic')
  refuses(
    { yaml, flags: { defaultRegion: 'hk' } },
    'defaultRegion',
    "--default-region takes the id of one of the regions, not 'hk'",
  )
})

test('a region that is not whole is refused by name', () => {
  const cases: [string, string, string][] = [
    ['regions:', 'regions', 'not nothing'],
    ['regions: {}', 'regions', 'not an empty map'],
    ['regions: [hk]', 'regions', 'not the list ["hk"]'],
    [
      'regions: {HK: {name: x, zones: [a]}}',
      'regions',
      "lower-case letters, digits and -, a letter first, not 'HK'",
    ],
    ['regions: {hk: x}', 'regions.hk', "takes a map with name and zones, not 'x'"],
    [region('zones: [a]'), 'regions.here.name', 'not nothing'],
    [region('name: ""\nzones: [a]'), 'regions.here.name', 'text of 1 to 64 characters'],
    [region('name: {zh: x}\nzones: [a]'), 'regions.here.name.en', 'not nothing'],
    [region('name: {zh: x, en: y, fr: z}\nzones: [a]'), 'regions.here.name.fr', 'Did you mean'],
    [region('name: x'), 'regions.here.zones', 'takes a list of zone ids'],
    [region('name: x\nzones: []'), 'regions.here.zones', 'not an empty list'],
    [region('name: x\nzones: [a, 7]'), 'regions.here.zones', 'not the list ["a",7]'],
    [region('name: x\nzone: [a]'), 'regions.here.zone', "Did you mean 'zones'?"],
    [region('name: x\nzones: [a, a]'), 'regions.here', 'both take the zone a'],
    [region('name: x\nzones: [a]\nobjects: ~/x'), 'regions.here.objects', 'takes a directory'],
    [
      region('name: x\nzones: [a]\nobjects: 7'),
      'regions.here.objects',
      'takes a directory, or a map with directory or s3, not 7',
    ],
    [
      region('name: x\nzones: [a]\ncopyBytesPerSecond: 1'),
      'regions.here.copyBytesPerSecond',
      'takes a whole number from 65536',
    ],
    [
      `${region('name: x\nzones: [a]')}  there: {name: y, zones: [a]}`,
      'regions.there',
      'regions.here and regions.there',
    ],
    [
      `${region('name: x\nzones: [a]\nobjects: /o')}  there: {name: y, zones: [b], objects: /o/.}`,
      'regions.there',
      'both take the directory /o',
    ],
  ]
  for (const [yaml, field, words] of cases) refuses({ yaml }, field, path, words)
})

// Rooms in the order of docs/architecture.md. A file may import its own room and any room above it;
// the four doors to the world (objects, catalog, disk, host) never import each other.
const rooms = [
  'image',
  'objects',
  'store',
  'peers',
  'catalog',
  'disk',
  'host',
  'isolation',
  'volume',
  'guest',
  'cleaning',
  'intake',
  'access',
  'tasks',
  'app',
  'wire',
  'cli',
]
const upward = rooms.map((room, index) => ({
  name: `${room}-looks-up-only`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: {
    path: `^src/(${[...rooms.slice(index + 1)].join('|') || 'nothing'})/|^src/${room === 'cli' ? 'main' : '(main|settings)'}`,
  },
}))
const doors = ['objects', 'catalog', 'disk', 'host']
const apart = doors.map((door) => ({
  name: `${door}-is-a-door`,
  severity: 'error',
  from: { path: `^src/${door}/` },
  to: { path: `^src/(${doors.filter((d) => d !== door).join('|')}|store)/` },
}))
module.exports = {
  forbidden: [
    ...upward,
    ...apart,
    { name: 'no-circles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'clouds-apart',
      severity: 'error',
      from: { path: '^src/wire/([^/]+)/' },
      to: { path: '^src/wire/(?!$1/)[^/]+/' },
    },
    {
      name: 'no-dev-packages',
      severity: 'error',
      from: { path: '^src' },
      to: { dependencyTypes: ['npm-dev'] },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    tsPreCompilationDeps: true,
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '\\.test\\.ts$' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node'],
      extensions: ['.ts', '.js'],
    },
  },
}

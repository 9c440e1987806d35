import { text } from 'node:stream/consumers'
import { stripVTControlCharacters } from 'node:util'

// A terminal's output on standard input as an SVG on standard output:
//   script -qec './run --once' /dev/null | node demo/picture.ts > docs/run.svg

const COLUMN_PX = 7.8
const LINE_PX = 18
const PADDING_PX = 16
const ESCAPE = '\u001b['
const COLOUR_CODE = new RegExp(`(${ESCAPE.replace('[', '\\[')}[0-9;]*m)`)
const COLOURS: Readonly<Record<string, string>> = {
  '2': '#8b949e',
  '32': '#3fb950',
  '31': '#f85149',
  '1': '#ffffff',
}

interface Span {
  readonly text: string
  readonly colour: string
  readonly isBold: boolean
}

const escaped = (raw: string) =>
  raw.replace(/[&<>]/g, (letter) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[letter] ?? letter)

/** The parts of a line between colour codes; all other codes are dropped. */
function spansOf(line: string): Span[] {
  const spans: Span[] = []
  let colour = '#c9d1d9'
  let isBold = false
  for (const part of line.split(COLOUR_CODE)) {
    const code = part.startsWith(ESCAPE) ? part.slice(2, -1) : undefined
    if (code === undefined) {
      const shown = stripVTControlCharacters(part)
      if (shown !== '') spans.push({ text: shown, colour, isBold })
    } else {
      colour = COLOURS[code] ?? '#c9d1d9'
      isBold = code === '1'
    }
  }
  return spans
}

const lines = (await text(process.stdin)).replaceAll('\r', '').trimEnd().split('\n').map(spansOf)
const columns = Math.max(...lines.map((spans) => spans.reduce((sum, span) => sum + span.text.length, 0)))
const width = Math.ceil(columns * COLUMN_PX + 2 * PADDING_PX)
const height = lines.length * LINE_PX + 2 * PADDING_PX
const rows = lines.map((spans, row) => {
  const y = PADDING_PX + (row + 0.75) * LINE_PX
  let column = 0
  const parts = spans.map((span) => {
    const x = PADDING_PX + column * COLUMN_PX
    column += span.text.length
    const weight = span.isBold ? ' font-weight="bold"' : ''
    const length = (span.text.length * COLUMN_PX).toFixed(1)
    return `<tspan x="${x.toFixed(1)}" fill="${span.colour}"${weight} textLength="${length}">${escaped(span.text)}</tspan>`
  })
  return `<text y="${y}">${parts.join('')}</text>`
})
console.log(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13" xml:space="preserve">
${rows.join('\n')}
</g>
</svg>`)

/** A file that this process holds open as a read-only NBD export, known by the task that reads it. */
export interface FileExports {
  /** A second call with the same key finds the first one's. */
  open(
    path: string,
    key: string,
    signal: AbortSignal,
  ): Promise<{ readonly socketPath: string; readonly exportName: string; readonly sizeBytes: number }>
  /** Takes away what `open` made, also what a crash left. May be called for nothing. */
  close(key: string): Promise<void>
}

package runbook

// KillAt lets a process die: it is asked before and after each line of the journal.
func (o *Options) KillAt(dies func() error) { o.dies = dies }

// DecodeEntry reads a line of a journal and writes it again.
func DecodeEntry(line []byte) (entry, error) { return decodeEntry(line) }

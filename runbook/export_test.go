package runbook

import "encoding/json"

// KillAt lets a process die: it is asked before and after each line of the journal.
func (o *Options) KillAt(dies func() error) { o.dies = dies }

// Reencode reads a line of a journal and writes it again.
func Reencode(line []byte) ([]byte, error) {
	e, err := decodeEntry(line)
	if err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

// Replay is a run as the lines of a journal tell it.
func Replay(p *Plan, lines []json.RawMessage) (*Run, error) {
	r, err := newRun(p)
	if err != nil {
		return nil, err
	}
	return r, r.replay(lines)
}

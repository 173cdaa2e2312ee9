package durable

// ExplainRead gives the tests a read error that no device here can be made to
// answer.
func ExplainRead(d Dir, err error) error { return d.(*OSDir).explainRead(err) }

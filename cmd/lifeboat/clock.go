package main

import "time"

// now is this command's clock. Everything that is decided or written down by the
// time goes by it, so that a trial can be told the time.
func (a *app) now() time.Time { return time.Now() }

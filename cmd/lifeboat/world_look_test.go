package main

import "testing"

func TestAConsoleIsKeptWithoutWhatOnlyTerminalsRead(t *testing.T) {
	got := string(consoleText([]byte("\x1b[1;32mok\x1b[0m\r\nweb# \x1b[6n\x1b(B\x07")))
	if got != "ok\nweb# "+plainText("\x07")+"\n" {
		t.Errorf("%q", got)
	}
}

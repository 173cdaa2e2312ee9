package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"
)

// lyingAgent answers the greeting with a flood, and then truly; every later
// command with the given line.
func lyingAgent(t *testing.T, flood int64, answer string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "a")
	l, err := net.Listen("unix", socket)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		lines := bufio.NewReader(conn)
		line, _ := lines.ReadString('\n')
		var asked struct {
			Arguments struct{ ID int32 }
		}
		json.Unmarshal([]byte(strings.TrimPrefix(line, "\xff")), &asked)
		conn.Write([]byte{0xff})
		io.CopyN(conn, endless{}, flood)
		fmt.Fprintf(conn, "\n\xff{\"return\":%d}\n", asked.Arguments.ID)
		for {
			if _, err := lines.ReadString('\n'); err != nil {
				return
			}
			fmt.Fprintln(conn, answer)
		}
	}()
	return socket
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestAGuestThatFloodsItsAgentsLineCostsNoMemory(t *testing.T) {
	socket := lyingAgent(t, 4<<20, "")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := dialAgent(t.Context(), socket)
	must(t, err)
	a.close()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d KiB were used", grown>>10)
	}
}

func TestWhatAnAgentSaysOfAnErrorIsOneShortPrintableLine(t *testing.T) {
	words, err := json.Marshal("\x1b[2J no\r\n" + strings.Repeat("ä", 5000))
	must(t, err)
	a, err := dialAgent(t.Context(), lyingAgent(t, 0, fmt.Sprintf(`{"error":{"class":"C","desc":%s}}`, words)))
	must(t, err)
	defer a.close()
	err = a.run(t.Context(), agentPatience, "guest-fsfreeze-freeze", nil, nil)
	var said *commandError
	if !errors.As(err, &said) || len(said.Desc) > 203 || strings.ContainsAny(said.Desc, "\x1b\r\n") || !utf8.ValidString(said.Desc) {
		t.Errorf("it says %q", err)
	}
}

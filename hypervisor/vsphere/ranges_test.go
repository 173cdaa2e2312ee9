package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat"
)

// rangesOver reads a disk from a server whose answers a test spoils: the
// function returns true if it has answered in the server's stead.
func rangesOver(t *testing.T, disk []byte, spoil func(n int64, w http.ResponseWriter, r *http.Request) bool) *ranges {
	t.Helper()
	shortPauses(t)
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if spoil == nil || !spoil(n.Add(1), w, r) {
			http.ServeContent(w, r, "disk-flat.vmdk", time.Time{}, bytes.NewReader(disk))
		}
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	turn := (&turns{free: map[string]chan struct{}{}}).of("ds", 1)
	return newRanges(plainGet, u, int64(len(disk)), turn, func(context.Context) error { return nil })
}

func plainGet(ctx context.Context, u *url.URL, header map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return http.DefaultClient.Do(req)
}

// answer sends a part as the spoiler wants it.
func answer(w http.ResponseWriter, status int, contentRange string, body []byte, length int) bool {
	w.Header().Set("Content-Range", contentRange)
	if length >= 0 {
		w.Header().Set("Content-Length", fmt.Sprint(length))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return true
}

func TestAServerThatAnswersWronglyIsNotBelieved(t *testing.T) {
	disk := sparseDisk(1<<20, 9)
	part := disk[:4096]
	tests := map[string]func(n int64, w http.ResponseWriter, r *http.Request) bool{
		"all in place of a part": func(_ int64, w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return false
		},
		"forbidden": func(_ int64, w http.ResponseWriter, _ *http.Request) bool { return answer(w, 403, "", nil, 0) },
		"not there": func(_ int64, w http.ResponseWriter, _ *http.Request) bool { return answer(w, 404, "", nil, 0) },
		"no range":  func(_ int64, w http.ResponseWriter, _ *http.Request) bool { return answer(w, 416, "", nil, 0) },
		"another part": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, 206, "bytes 512-4607/1048576", part, 4096)
		},
		"a shorter part": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, 206, "bytes 0-2047/1048576", part[:2048], 2048)
		},
		"a file of another size": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, 206, "bytes 0-4095/1048577", part, 4096)
		},
		"a part without its place": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, 206, "", part, 4096)
		},
		"a part of a file of no size": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, 206, "bytes 0-4095/*", part, 4096)
		},
		"a length that does not fit": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			return answer(w, 206, "bytes 0-4095/1048576", part[:100], 100)
		},
		"compressed": func(_ int64, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Encoding", "gzip")
			return answer(w, 206, "bytes 0-4095/1048576", part, 4096)
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			r := rangesOver(t, disk, spoil)
			if err := r.readAt(t.Context(), make([]byte, 4096), 0); !errors.Is(err, errWay) {
				t.Errorf("it gives %v", err)
			}
		})
	}
}

func TestAPartIsFinishedOverDroppedConnections(t *testing.T) {
	disk := sparseDisk(6<<20, 9)
	r := rangesOver(t, disk, func(n int64, w http.ResponseWriter, r *http.Request) bool {
		switch n % 3 {
		case 1: // in the middle of the body
			var from, to int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			half := (to - from) / 2
			answer(w, 206, fmt.Sprintf("bytes %d-%d/%d", from, to, len(disk)), disk[from:from+half], to-from+1)
			panic(http.ErrAbortHandler)
		case 2:
			return answer(w, 503, "", nil, 0)
		}
		return false
	})
	got := make([]byte, len(disk))
	if err := r.readAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("%v, the bytes are right: %v", err, bytes.Equal(got, disk))
	}
}

func TestAServerThatKeepsFailingIsAnError(t *testing.T) {
	r := rangesOver(t, make([]byte, 8192), func(_ int64, w http.ResponseWriter, _ *http.Request) bool { return answer(w, 500, "", nil, 0) })
	p := bytes.Repeat([]byte{9}, 512)
	if err := r.readAt(t.Context(), p, 0); err == nil || errors.Is(err, errWay) || !strings.Contains(err.Error(), "500") {
		t.Errorf("it gives %v", err)
	}
}

func TestAFileThatChangesMeanwhileIsNotRead(t *testing.T) {
	r := rangesOver(t, make([]byte, 8192), func(n int64, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", fmt.Sprint(`"`, n, `"`))
		return false
	})
	p := make([]byte, 512)
	if err := r.readAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.readAt(t.Context(), p, 512); !errors.Is(err, errWay) {
		t.Errorf("the second read gives %v", err)
	}
}

func TestBytesAreBelievedOnlyAfterALookAtTheSnapshot(t *testing.T) {
	r := rangesOver(t, make([]byte, 8192), nil)
	gone := errors.New("somebody removed it")
	r.stands = func(context.Context) error { return gone }
	if err := r.readAt(t.Context(), make([]byte, 512), 0); !errors.Is(err, gone) {
		t.Errorf("it gives %v", err)
	}
}

func TestManyPartsAreReadAtOnce(t *testing.T) {
	disk := sparseDisk(16<<20, 9)
	var now, most atomic.Int64
	r := rangesOver(t, disk, func(int64, http.ResponseWriter, *http.Request) bool {
		most.Store(max(most.Load(), now.Add(1)))
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		return false
	})
	got := make([]byte, len(disk))
	var readers sync.WaitGroup
	for i := range int64(16) {
		readers.Go(func() {
			e := lifeboat.Extent{Offset: i << 20, Length: 1 << 20}
			if err := r.readAt(t.Context(), got[e.Offset:e.End()], e.Offset); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	if !bytes.Equal(got, disk) || most.Load() < 2 || most.Load() > partsAtOnce {
		t.Errorf("the bytes are right: %v, at most %d at once", bytes.Equal(got, disk), most.Load())
	}
}

package nbd

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat"
)

// FuzzMessages: no parser panics, and what one accepts its writer gives back.
func FuzzMessages(f *testing.F) {
	f.Add(request{kind: cmdRead, cookie: 1, length: 512}.appendTo(nil))
	f.Add(option{code: optGo, length: 3}.appendTo(nil))
	f.Add(optionReply{code: optGo, kind: repAck}.appendTo(nil))
	f.Add(infoRequest{export: "vda", kinds: []uint16{infoBlockSize}}.appendTo(nil))
	f.Add(metaRequest{export: "vda", queries: []string{ContextAllocation, ""}}.appendTo(nil))
	f.Add(chunk{kind: chunkOffsetData, length: 9}.appendTo(nil))
	f.Add(simpleReply{errno: EIO, cookie: 2}.appendTo(nil))
	f.Add(statusChunk{context: 1, runs: []statusRun{{4096, 3}, {1, 0}}}.appendTo(nil))
	f.Add(errorChunk{errno: EIO, message: "no"}.appendTo(nil, chunkError))
	f.Add(errorChunk{errno: EIO, message: "no", offset: 7}.appendTo(nil, chunkErrorOffset))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, again []byte, err error) {
			if err == nil && !bytes.Equal(again, b) {
				t.Errorf("%s: %x came back as %x", what, b, again)
			}
		}
		r, err := parseRequest(b)
		same("request", r.appendTo(nil), err)
		o, err := parseOption(b)
		same("option", o.appendTo(nil), err)
		or, err := parseOptionReply(b)
		same("option reply", or.appendTo(nil), err)
		i, err := parseInfoRequest(b)
		same("info request", i.appendTo(nil), err)
		m, err := parseMetaRequest(b)
		same("meta request", m.appendTo(nil), err)
		c, err := parseChunk(b)
		same("chunk", c.appendTo(nil), err)
		sr, err := parseSimpleReply(b)
		same("simple reply", sr.appendTo(nil), err)
		s, err := parseStatusChunk(b)
		same("status", s.appendTo(nil), err)
		for _, kind := range []uint16{chunkError, chunkErrorOffset} {
			e, err := parseErrorChunk(b, kind)
			same("error", e.appendTo(nil, kind), err)
		}
	})
}

// FuzzServer: whatever a peer sends, the server neither panics nor hangs.
func FuzzServer(f *testing.F) {
	hello := be.AppendUint32(nil, uint32(flagFixedNewstyle|flagNoZeroes))
	ask := func(b []byte, code uint32, data []byte) []byte {
		return append(option{code: code, length: uint32(len(data))}.appendTo(b), data...)
	}
	info := infoRequest{export: "a"}.appendTo(nil)
	meta := metaRequest{export: "a", queries: []string{ContextAllocation}}.appendTo(nil)
	full := ask(ask(ask(bytes.Clone(hello), optStructuredReply, nil), optSetMetaContext, meta), optGo, info)
	for kind := range cmdBlockStatus + 2 {
		full = request{kind: kind, offset: 100, length: 5000}.appendTo(full)
		if kind == cmdWrite {
			full = append(full, make([]byte, 5000)...)
		}
	}
	f.Add(full)
	f.Add(ask(bytes.Clone(hello), optList, nil))
	f.Add(ask(bytes.Clone(hello), optExportName, []byte("a")))
	f.Add(ask(bytes.Clone(hello), optInfo, info))
	d := &memoryDisk{data: bytes.Repeat([]byte{0, 1}, 10000), granule: 512, rotten: lifeboat.Extent{Offset: 9000, Length: 1}}
	s := NewServer(map[string]Export{"a": d}, ServerOptions{})
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() { s.servePeer(context.Background(), theirs); close(ended) }()
		go func() { bufio.NewReader(ours).WriteTo(discard{}) }()
		ours.SetWriteDeadline(time.Now().Add(10 * time.Second))
		ours.Write(sent)
		ours.Close()
		<-ended
	})
}

// FuzzClient: whatever a server answers, the client neither panics nor hangs,
// and never calls a read good whose bytes did not all come.
func FuzzClient(f *testing.F) {
	greeting := be.AppendUint16(be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption), 3)
	ack := func(b []byte, code uint32) []byte { return optionReply{code: code, kind: repAck}.appendTo(b) }
	b := ack(bytes.Clone(greeting), optStructuredReply)
	b = ack(b, optSetMetaContext)
	about := exportInfo{sizeBytes: 64, flags: FlagHasFlags}.appendTo(be.AppendUint16(nil, infoExport))
	b = append(optionReply{code: optGo, kind: repInfo, length: uint32(len(about))}.appendTo(b), about...)
	b = ack(b, optGo)
	hole := append(chunk{kind: chunkOffsetHole, flags: chunkFlagDone, cookie: 1, length: 12}.appendTo(bytes.Clone(b)), make([]byte, 10)...)
	f.Add(append(hole, 0, 64))
	data := chunk{kind: chunkOffsetData, cookie: 1, length: 8 + 32}.appendTo(bytes.Clone(b))
	data = append(data, make([]byte, 8+32)...)
	data = append(chunk{kind: chunkOffsetHole, cookie: 1, length: 12}.appendTo(data), 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 32)
	f.Add(chunk{flags: chunkFlagDone, cookie: 1}.appendTo(data))
	f.Add(b)
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() { bufio.NewReader(theirs).WriteTo(discard{}) }()
		go func() { theirs.Write(sent); theirs.Close() }()
		h := &haggler{conn: ours, in: bufio.NewReader(ours), export: "a"}
		if h.run([]string{ContextAllocation}) != nil {
			ours.Close()
			return
		}
		c := &Client{agreed: h.agreed, links: []*link{newLink(ours, h.in, h.agreed)}}
		defer c.Close()
		if n := min(c.SizeBytes(), 64); n > 0 {
			p := bytes.Repeat([]byte{0xa5}, int(n))
			// A byte that is still there either came or was never filled.
			if c.ReadAt(t.Context(), p, 0) == nil && bytes.Count(p, []byte{0xa5}) > bytes.Count(sent, []byte{0xa5}) {
				t.Error("a read was called good whose bytes did not come")
			}
			c.BlockStatus(t.Context(), ContextAllocation, lifeboat.Extent{Length: n})
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestRunsCoverEverythingAndCallNoDataAHole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		within := lifeboat.Extent{Offset: rapid.Int64Range(0, 50).Draw(t, "offset"), Length: rapid.Int64Range(1, 100).Draw(t, "length")}
		var data []lifeboat.Extent
		at := int64(0)
		for range rapid.IntRange(0, 10).Draw(t, "extents") {
			at += rapid.Int64Range(0, 20).Draw(t, "gap")
			n := rapid.Int64Range(1, 30).Draw(t, "run")
			data = append(data, lifeboat.Extent{Offset: at, Length: n})
			at += n
		}
		runs, err := cover(within, data)
		if err != nil {
			t.Fatal(err)
		}
		at = within.Offset
		for i, r := range runs {
			if r.Offset != at || r.Length <= 0 || i > 0 && runs[i-1].hole == r.hole {
				t.Fatalf("run %d of %+v", i, runs)
			}
			for b := r.Offset; b < r.End(); b++ {
				if r.hole == isIn(b, data) {
					t.Fatalf("byte %d is called hole: %v", b, r.hole)
				}
			}
			at = r.End()
		}
		if at != within.End() {
			t.Fatalf("covered up to %d of %d", at, within.End())
		}
	})
}

func isIn(at int64, list []lifeboat.Extent) bool {
	for _, e := range list {
		if at >= e.Offset && at < e.End() {
			return true
		}
	}
	return false
}

func TestExtentsOutOfOrderAreRefused(t *testing.T) {
	for _, data := range [][]lifeboat.Extent{
		{{Offset: 10, Length: 5}, {Offset: 0, Length: 5}},
		{{Offset: 0, Length: 5}, {Offset: 4, Length: 5}},
		{{Offset: 0, Length: 0}},
		{{Offset: -5, Length: 10}},
	} {
		if runs, err := cover(lifeboat.Extent{Length: 100}, data); err == nil {
			t.Errorf("%v became %v", data, runs)
		}
	}
}

func TestEveryByteOfAReplyComesOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts []lifeboat.Extent
		good  bool
	}{
		{"in order", []lifeboat.Extent{{Offset: 100, Length: 10}, {Offset: 110, Length: 90}}, true},
		{"backwards", []lifeboat.Extent{{Offset: 190, Length: 10}, {Offset: 150, Length: 40}, {Offset: 100, Length: 50}}, true},
		{"a gap closed last", []lifeboat.Extent{{Offset: 100, Length: 10}, {Offset: 190, Length: 10}, {Offset: 110, Length: 80}}, true},
		{"twice", []lifeboat.Extent{{Offset: 100, Length: 100}, {Offset: 120, Length: 1}}, false},
		{"overlap in front", []lifeboat.Extent{{Offset: 150, Length: 50}, {Offset: 100, Length: 51}}, false},
		{"missing", []lifeboat.Extent{{Offset: 100, Length: 99}}, false},
		{"before", []lifeboat.Extent{{Offset: 99, Length: 2}}, false},
		{"behind", []lifeboat.Extent{{Offset: 199, Length: 2}}, false},
		{"empty", []lifeboat.Extent{{Offset: 100, Length: 0}}, false},
	} {
		asked := &call{request: request{kind: cmdRead, offset: 100, length: 100}}
		var err error
		for _, part := range c.parts {
			if _, err = asked.cover(uint64(part.Offset), uint32(part.Length)); err != nil {
				break
			}
		}
		if err == nil {
			err = asked.verdict()
		}
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

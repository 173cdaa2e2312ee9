//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	lv "libvirt.org/go/libvirt"
)

// What lies beside a machine's disks is small: variables of firmware are at most
// 4 MiB, the state of a TPM less.
const mostHostFile = 16 << 20

// errNoFile: the host has no such file.
var errNoFile = errors.New("no such file on the host")

// readPoolPrefix begins the name of a pool through which such a file is read. It
// lives for the length of a read, in libvirtd's memory alone.
const readPoolPrefix = "lifeboat-read-"

// readFiles returns the files of one folder of the host that want says yes to, by
// name. On this computer it looks there itself. Where it may not, or on another
// computer, libvirtd reads them: a pool over the folder is started, and stopped
// again. It writes nothing.
func (h *Host) readFiles(ctx context.Context, dir string, want func(name string) bool) (map[string][]byte, error) {
	if h.local() {
		if files, err := readLocal(dir, want); err == nil && len(files) > 0 {
			return files, nil
		}
	}
	var err error
	for range 3 { // another export on this host may stop the pool under us
		var files map[string][]byte
		files, err = onHost(ctx, h, "read "+dir, func(c *lv.Connect) (map[string][]byte, error) {
			return readThroughPool(ctx, c, dir, want)
		})
		if err == nil || errors.Is(err, errNoFile) || ctx.Err() != nil {
			return files, err
		}
	}
	return nil, err
}

func readLocal(dir string, want func(string) bool) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !want(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(f, mostHostFile+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		if len(data) > mostHostFile {
			return nil, fmt.Errorf("%s is too large to be what it should: %w", e.Name(), fs.ErrInvalid)
		}
		files[e.Name()] = data
	}
	return files, nil
}

func readThroughPool(ctx context.Context, c *lv.Connect, dir string, want func(string) bool) (map[string][]byte, error) {
	pool, stop, err := poolOver(c, dir)
	if err != nil {
		return nil, err
	}
	defer stop()
	volumes, err := pool.ListAllStorageVolumes(0)
	if err != nil {
		return nil, err
	}
	defer func() {
		for i := range volumes {
			volumes[i].Free()
		}
	}()
	files := map[string][]byte{}
	for i := range volumes {
		name, err := volumes[i].GetName()
		if err != nil || !want(name) {
			continue
		}
		if files[name], err = download(ctx, c, &volumes[i]); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, errNoFile
	}
	return files, nil
}

// poolOver is a pool whose folder is dir, and what to call when done with it.
func poolOver(c *lv.Connect, dir string) (*lv.StoragePool, func(), error) {
	pool, err := c.LookupStoragePoolByTargetPath(dir)
	if err != nil {
		random := make([]byte, 6)
		rand.Read(random)
		pool, err = c.StoragePoolCreateXML("<pool type='dir'><name>"+readPoolPrefix+hex.EncodeToString(random)+
			"</name><target><path>"+escape(dir)+"</path></target></pool>", 0)
	}
	if isCode(err, lv.ERR_SYSTEM_ERROR) && strings.Contains(err.Error(), "No such file") {
		return nil, nil, errNoFile
	}
	if err != nil {
		return nil, nil, err
	}
	name, err := pool.GetName()
	if err != nil || !strings.HasPrefix(name, readPoolPrefix) {
		return pool, func() { pool.Free() }, err
	}
	return pool, func() {
		// One that is not there any more was stopped by somebody who shared it.
		_ = pool.Destroy()
		_ = pool.Free()
	}, nil
}

// download reads a whole volume.
func download(ctx context.Context, c *lv.Connect, v *lv.StorageVol) ([]byte, error) {
	info, err := v.GetInfo()
	if err != nil {
		return nil, err
	}
	if info.Capacity > mostHostFile {
		return nil, fmt.Errorf("%d bytes are too many for what it should be", info.Capacity)
	}
	stream, err := c.NewStream(0)
	if err != nil {
		return nil, err
	}
	defer stream.Free()
	if err := v.Download(stream, 0, 0, 0); err != nil {
		return nil, err
	}
	return receive(ctx, stream, mostHostFile)
}

// receive reads a stream to its end.
func receive(ctx context.Context, stream *lv.Stream, most int) ([]byte, error) {
	var all bytes.Buffer
	buf := make([]byte, 256<<10)
	for {
		n, err := stream.Recv(buf)
		switch {
		case errors.Is(err, io.EOF):
			return all.Bytes(), stream.Finish()
		case err == nil && ctx.Err() != nil:
			err = context.Cause(ctx)
		case err == nil && all.Len()+n > most:
			err = errors.New("the host sends more than it should")
		}
		if err != nil {
			_ = stream.Abort()
			return nil, err
		}
		all.Write(buf[:n])
	}
}

// escape is text inside XML.
func escape(text string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(text)) // a buffer takes everything
	return out.String()
}

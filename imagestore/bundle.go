package imagestore

import (
	"fmt"

	"lifeboat/imagestore/format"
)

// BundleLimit is how long the body of a bundle may be.
const BundleLimit = 15 << 20

// SealBundle seals something about this drive for the way home, when the drive is
// only read: nobody but who opens the drive reads it or could have made it. The
// drive is not touched.
func (s *Store) SealBundle(body []byte) ([]byte, error) {
	if len(body) > BundleLimit {
		return nil, fmt.Errorf("a bundle has at most %d bytes, not %d", BundleLimit, len(body))
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	return s.seal(format.Header{Kind: format.KindBundle, Generation: s.super.Generation, Drive: s.driveID, File: newFileID()}, body)
}

// OpenBundle opens what SealBundle made for this drive. Anything else, one that was
// changed or whose key the drive has no more, is an error.
func (s *Store) OpenBundle(bundle []byte) ([]byte, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	if len(bundle) > format.MaxSmallFile {
		return nil, fmt.Errorf("a bundle has at most %d bytes, not %d", format.MaxSmallFile, len(bundle))
	}
	_, body, err := format.OpenSmall(bundle, s.driveID, format.KindBundle, s.masters)
	if err != nil {
		return nil, fmt.Errorf("open a bundle: %w", err)
	}
	return body, nil
}

-- Images: an indexed folder, and the words by which its images are found.

CREATE TABLE images (
  -- The files of an image folder, those that were refused too, and where an embedder puts each
  -- image.
  run       VARCHAR,  -- run of kind images
  file      VARCHAR,  -- path inside the folder
  image     VARCHAR,  -- SHA-256 of the file, by which the image is known [hexadecimal]
  status    VARCHAR,  -- embedded, duplicate (same bytes as an earlier file) or refused
  reason    VARCHAR,  -- why it was refused, or the file it repeats; empty otherwise
  width     INTEGER,  -- width as opened [pixels]; 0 unless embedded
  height    INTEGER,  -- height as opened [pixels]; 0 unless embedded
  embedding FLOAT[]   -- point of length one in the space of the embedder; empty unless embedded
);

CREATE TABLE image_keywords (
  -- Words by which images are found for each value, and where the embedder of the images puts them.
  run       VARCHAR,  -- run of kind images
  value     VARCHAR,  -- id of the value
  keyword   VARCHAR,  -- the word
  embedding FLOAT[]   -- point of length one in the space of the embedder
);

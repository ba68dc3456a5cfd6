// Wait for the first picture of the page's film, jump, and tell what became of it: see Viewing in
// browser.py. `seek` is in seconds of the film, or null; `patience` in seconds, for each step.
async ([seek, patience]) => {
  const video = document.querySelector('video');
  const happens = (name) => new Promise((done) =>
    video.addEventListener(name, () => done(name), { once: true }));
  const late = () => new Promise((done) => setTimeout(() => done('late'), 1000 * patience));
  const failed = () => video.error
    ? `it can't play the film: ${video.error.message || 'error ' + video.error.code}` : '';
  let problem = '';
  if (video.readyState < 2 && !video.error)
    if (await Promise.race([happens('loadeddata'), happens('error'), late()]) == 'late')
      problem = 'no picture came in time';
  if (!problem && !video.error && seek !== null) {
    const there = happens('seeked');
    video.currentTime = seek;
    if (await Promise.race([there, happens('error'), late()]) == 'late')
      problem = 'the jump did not come to its end in time';
  }
  const two = (number) => String(Math.floor(number)).padStart(2, '0');
  const text = (time) => `${Math.floor(time / 60)}:${two(time % 60)}`;
  const duration = Number.isFinite(video.duration) ? video.duration : 0;
  document.querySelector('#clock').textContent = `${text(video.currentTime)} / ${text(duration)}`;
  document.querySelector('div').style.width = `${100 * video.currentTime / (duration || 1)}%`;
  await new Promise((done) => setTimeout(done, 300));  // all of it is drawn
  return {
    duration: duration,
    seekable: video.seekable.length ? video.seekable.end(video.seekable.length - 1) : 0,
    position: video.currentTime,
    shown: video.readyState >= 2,
    problem: failed() || problem,
  };
}

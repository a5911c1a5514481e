"""How close the estimate without labels comes to the truth, on real data whose input is shifted by resampling."""

"""Human ventricular cell of ten Tusscher & Panfilov 2006: epicardial, endocardial and midmyocardial."""
